"""What an attempt died of: its class, and one sentence with the evidence.

Pure: orchestra/supervise/evidence.py reads what the attempt left behind, policy.py says what is
done about it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any

from orchestra.supervise.reaper import ExitStatus
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure
from orchestra.wire.memory import OUT_OF_MEMORY


class Cause(StrEnum):
    """The class of a failure."""

    CRASH = "crash"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out of memory"
    NAN = "nan"
    HANG = "hang"
    IMPORT = "import"
    CONFIG = "config"
    DATA = "data"
    DISK_FULL = "disk full"
    RENDEZVOUS = "rendezvous"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class Blame(IntEnum):
    """Of two ranks that failed, the one with the smaller number brought the other's about."""

    OWN = 0
    WAITED = 1  # for others in vain
    PEER_LOST = 2  # an exchange failed because the other end was gone
    TERMINATED = 3  # torchrun answers any failure with SIGTERM to the other ranks


@dataclass(frozen=True)
class Evidence:
    """What is known about an attempt that did not end well."""

    agent: ExitStatus
    died: RankFailure | None
    """The rank that failed first, or that hung; None: none is on record. Its exit code and signal
    are both 0 where they are not known."""
    last_lines: tuple[str, ...] = ()
    """Of that rank's log, or of the agent's, as they were written: clean them to print them."""
    step: int = 0
    """The last that the rank had taken; 0: none, or the job takes no steps."""
    first_step: int = 0
    """The step that the attempt started from."""
    samples: tuple[str, ...] = ()
    """Ids of the utterances that the rank was at work on."""
    capsule: str = ""
    """Name of the one that holds what the rank failed with."""
    run: str = ""
    """Id of the run that has it."""
    hang: str = ""
    """How the rank hung, in a sentence; empty if it did not."""
    stacks: str = ""
    """Where the stacks of that moment lie."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended. The evidence stays with it, for `show` and for the next attempt."""

    cause: Cause
    sentence: str
    said: str = ""
    """By what the same failure would be known again, whichever rank had it; empty: by nothing."""
    advised: bool = False
    """The sentence says itself what must be done first."""
    before_steps: bool = False
    """It was found before the first step, with the largest batches: it would be found again."""
    one_utterance: bool = False
    """A single utterance is too large: no smaller micro-batch helps."""
    rank: int | None = None
    pid: int | None = None
    exit_code: int = 0
    signal: int = 0
    step: int = 0
    last_lines: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    capsule: str = ""

    def is_like(self, before: Failure | None) -> bool:
        """Whether the same was said at the same step."""
        if before is None or not self.said:
            return False
        return (self.said, self.step) == (before.said, before.step)

    def to_json(self) -> dict[str, Any]:
        """The part of attempt.json that `show` reads."""
        return {
            "cause": self.cause.value,
            "sentence": self.sentence,
            "said": self.said,
            "rank": self.rank,
            "pid": self.pid,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "step": self.step,
            "last_lines": list(self.last_lines),
            "samples": list(self.samples),
            "capsule": self.capsule,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Failure:
        """What `to_json` keeps (KeyError, TypeError, ValueError)."""
        return cls(
            Cause(value["cause"]),
            str(value["sentence"]),
            said=str(value["said"]),
            rank=value["rank"],
            pid=value["pid"],
            exit_code=int(value["exit_code"]),
            signal=int(value["signal"]),
            step=int(value["step"]),
            last_lines=tuple(value["last_lines"]),
            samples=tuple(value["samples"]),
            capsule=str(value["capsule"]),
        )


# Exit codes by which ranks tell what happened (wire/exit_codes.py).
_BY_CODE = {
    ExitCode.USAGE: Cause.CONFIG,
    ExitCode.NOT_FOUND: Cause.CONFIG,
    ExitCode.BAD_CONFIG: Cause.CONFIG,
    ExitCode.BAD_DATA: Cause.DATA,
    ExitCode.NOT_FINITE: Cause.NAN,
    ExitCode.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    ExitCode.DISK_FULL: Cause.DISK_FULL,
}

_PEER_LOST = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Failed to recv, got 0 bytes"
    r"|ncclRemoteError|remote process exited",
    re.IGNORECASE,
)
# What exceptions say that are none of ours, the first that matches; an exception may have the name
# of its module before its own.
_BY_MESSAGE = (
    (
        Cause.IMPORT,
        re.compile(r"(ImportError|ModuleNotFoundError|SyntaxError|IndentationError|TabError):"),
    ),
    (
        Cause.OUT_OF_MEMORY,
        re.compile(
            r"([\w.]+\.)?(OutOfMemoryError|_?(Array)?MemoryError)\b"
            rf"|(?s:.*)({OUT_OF_MEMORY.pattern})"
        ),
    ),
    (Cause.DISK_FULL, re.compile(r"(?s:.*)(No space left on device|Disk quota exceeded)")),
    (Cause.UNKNOWN, re.compile(rf"(?s:.*)({_PEER_LOST.pattern})", re.IGNORECASE)),
    (
        Cause.RENDEZVOUS,
        re.compile(
            r"([\w.]+\.)?(DistNetworkError|DistStoreError|Rendezvous\w*Error)\b"
            r"|(?s:.*)(EADDRINUSE|Address already in use)",
            re.IGNORECASE,
        ),
    ),
    (
        Cause.HANG,  # of another rank; the deadlines of heartbeats are shorter, as a rule
        re.compile(
            r"(?s:.*)(Timed out waiting \d+ms for (recv|send) operation"
            r"|Watchdog caught collective operation timeout)"
        ),
    ),
)
_ONE_UTTERANCE = "cut this utterance"  # train/memory.py
_BUGS = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
"""Signals by which a process ends itself; the others come from outside."""
_KNOWN_AGAIN = {Cause.CRASH, Cause.SIGNAL, Cause.HANG}
"""Others are no work of the sample or of the code, or are handled on their own."""

# Whom the kernel killed for memory is root's to read.
_FROM_THE_KERNEL = " (the kernel does so when memory runs out: `dmesg` tells)"
_LONGEST_LINE = 300
_RECORD_LINE = re.compile(
    r"[\d-]+ [\d:,]+ INFO "  # log_format "text"
    r'|\{"kind": "'  # log_format "json"
    r"|all( +[\d,]+){2}$"  # the last of a start record's table
)
_BY_SIGNAL = 128
FATAL = "Fatal Python error: "
"""How faulthandler's report begins."""


def classify(evidence: Evidence) -> Failure:
    """Name the cause."""
    if evidence.hang:
        failure = _hang(evidence)
    elif evidence.died is None:
        failure = _of_agent(evidence)
    else:
        failure = _of_rank(evidence, evidence.died)
    died = evidence.died
    return replace(
        failure,
        said=failure.said[:_LONGEST_LINE] if failure.cause in _KNOWN_AGAIN else "",
        rank=died.rank if died else None,
        pid=died.pid if died else None,
        exit_code=died.exit_code if died else evidence.agent.code,
        signal=died.signal if died else evidence.agent.signal,
        step=evidence.step,
        last_lines=evidence.last_lines,
        samples=evidence.samples,
        capsule=evidence.capsule,
    )


def blame(failure: RankFailure) -> Blame:
    """Where this rank stands among those that failed."""
    if failure.signal:
        return Blame.TERMINATED if failure.signal == signal.SIGTERM else Blame.OWN
    if _PEER_LOST.search(failure.message):
        return Blame.PEER_LOST
    waited = _by_message(failure.message) in (Cause.RENDEZVOUS, Cause.HANG)
    return Blame.WAITED if waited else Blame.OWN


def tells_itself(failure: RankFailure) -> bool:
    """Whether its exit code says what was wrong: no death of a peer brings that about."""
    return failure.exit_code in _BY_CODE


def _hang(evidence: Evidence) -> Failure:
    stacks = f"; stacks in {evidence.stacks}" if evidence.stacks else ""
    return Failure(Cause.HANG, f"{evidence.hang}{stacks}", said=Cause.HANG.value)


def _of_rank(evidence: Evidence, died: RankFailure) -> Failure:
    where = f"rank {died.rank}"
    after = f" after step {evidence.step}" if evidence.step else ""
    last = _fatal_error(evidence.last_lines) or _last_word(evidence.last_lines)
    if died.signal:
        name = signal_name(died.signal)
        hint = _FROM_THE_KERNEL if died.signal == signal.SIGKILL else ""
        sentence = f"{where} was killed by {name}{after}{hint}{_quote(last)}"
        return Failure(Cause.SIGNAL, sentence, said=name if died.signal in _BUGS else "")
    if not died.exit_code:
        unseen = f"{where} died first{after}, how is not on record{_quote(last)}"
        return Failure(Cause.UNKNOWN, unseen)
    words = died.message or _last_word(evidence.last_lines)
    sentence = f"{where} failed{after} with exit code {died.exit_code}{_quote(words)}"
    if evidence.capsule:
        replay = f"`orchestra replay {evidence.run}`"
        sentence += f"; {replay} shows more (capsule {evidence.capsule})"
    told = tells_itself(died)
    return Failure(
        _BY_CODE[ExitCode(died.exit_code)] if told else _by_message(words) or Cause.CRASH,
        sentence,
        said=words,
        # Messages of an OrchestraError say what to do; a full disk is the one cause that is none.
        advised=told and bool(died.message) and died.exit_code != ExitCode.DISK_FULL,
        before_steps=told and evidence.step == evidence.first_step,
        one_utterance=_ONE_UTTERANCE in words,
    )


def _of_agent(evidence: Evidence) -> Failure:
    agent = evidence.agent
    # torchrun turns the signals that it handles into an exit code, as a shell does.
    number = agent.signal or max(0, agent.code - _BY_SIGNAL)
    if number:
        cause = Cause.PREEMPTED if number == signal.SIGTERM else Cause.SIGNAL
        return Failure(cause, f"torchrun was killed by {signal_name(number)}")
    if agent.code == 0:
        return Failure(Cause.UNKNOWN, "all ranks ended, but rank 0 left no result")
    words = _last_word(evidence.last_lines)
    sentence = f"torchrun failed with exit code {agent.code}{_quote(words)}"
    return Failure(_by_message(words) or Cause.UNKNOWN, sentence)


def _by_message(message: str) -> Cause | None:
    return next((cause for cause, pattern in _BY_MESSAGE if pattern.match(message)), None)


def signal_name(number: int) -> str:
    """`SIGKILL`; `signal 35` where the number has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _quote(line: str) -> str:
    line = line.strip()
    if len(line) > _LONGEST_LINE:
        whole, _, _ = line[: _LONGEST_LINE - 3].rpartition(" ")
        line = f"{whole or line[: _LONGEST_LINE - 4]} ..."
    return f": {line}" if line else ""


def _fatal_error(lines: Sequence[str]) -> str:
    """What faulthandler said when a signal came; stacks and a list of modules follow it."""
    return next((line for line in reversed(lines) if line.startswith(FATAL)), "")


def _last_word(lines: Sequence[str]) -> str:
    """The last line that is not blank; empty if there is none, or if it only tells progress."""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "" if _RECORD_LINE.match(last) else last
