"""Why an attempt died, as one sentence with its evidence, and whether trying again can help.

`gather` reads what the attempt left behind; `classify` is pure.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra.supervise.reaper import ExitStatus
from orchestra.wire.capsules import capsules_in, read_document, what_happened
from orchestra.wire.errors import OrchestraError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, read_failures
from orchestra.wire.folders import AttemptFolder, RunFolder
from orchestra.wire.heartbeat import Beat

_TAIL_BYTES = 4096
_LONGEST_LINE = 300

# Another attempt of the same code, config and data would end the same way. What to do is said here
# only where the rank did not: the messages of an OrchestraError say it themselves.
_FIX_FIRST = {
    ExitCode.USAGE: "correct the config",
    ExitCode.NOT_FOUND: "correct the config",
    ExitCode.BAD_CONFIG: "correct the config",
    ExitCode.BAD_DATA: "correct the data (`orchestra data check`)",
    ExitCode.NOT_FINITE: "lower optim.lr or correct the data",
    ExitCode.DISK_FULL: "free some space, then `orchestra resume`",
}
_RECORD_LINE = re.compile(
    r"[\d-]+ [\d:,]+ INFO "  # log_format "text"
    r'|\{"kind": "'  # log_format "json"
    r"|all( +[\d,]+){2}$"  # the last of a start record's table
)
_BROKEN_CODE = ("ImportError:", "ModuleNotFoundError:", "SyntaxError:", "IndentationError:")


@dataclass(frozen=True)
class Evidence:
    """What is known about an attempt that did not end well."""

    agent: ExitStatus
    cause: RankFailure | None  # the rank that failed first; None: no rank's failure is on record
    last_line: str  # of that rank's log, or of the agent's; empty if it is a mere record
    step: int  # the last that the rank had taken; 0: none, or the job takes no steps
    capsule: str = ""  # name of the one that holds what the rank failed with
    run: str = ""  # id of the run that has it


@dataclass(frozen=True)
class Failure:
    """`remedy` is what a person must do first where `retry` is False and the sentence lacks it."""

    sentence: str
    retry: bool
    remedy: str = ""
    said: str = ""  # a rank's last words, whichever rank it was; empty if it was killed
    step: int = 0  # the last that was taken

    def is_like(self, before: Failure | None) -> bool:
        """Whether the same was said at the same step; a kill says nothing."""
        if before is None or not self.said:
            return False
        return (self.said, self.step) == (before.said, before.step)


def gather(
    folder: AttemptFolder,
    agent: ExitStatus,
    first_dead: int | None,
    step: int,
    beats: Collection[Beat] = (),
) -> Evidence:
    """Collect the evidence.

    Args:
        first_dead: the pid that was seen dying first, where one was.
        step: the newest that was heard of; the beat of the rank that failed knows better.
        beats: the last of each rank.
    """
    try:
        failures = read_failures(folder.failures)
    except OrchestraError:  # torn by the agent's own death
        failures = []
    cause = _first(failures, first_dead)
    log = folder.agent_log if cause is None else folder.rank_log(cause.rank)
    if cause is None:
        return Evidence(agent, None, _last_line(log), step)
    taken = next((beat.step for beat in beats if beat.pid == cause.pid), 0)
    run = RunFolder(folder.path.parents[1])
    return Evidence(agent, cause, _last_line(log), taken or step, _capsule(run, cause), run.id)


def _first(failures: list[RankFailure], first_dead: int | None) -> RankFailure | None:
    """The failure that the others follow from."""
    # torchrun answers a failure with SIGTERM to the other ranks; the supervisor may have seen such
    # a rank die first, if the one that failed had died before it was known.
    own = [failure for failure in failures if failure.signal != signal.SIGTERM] or failures
    seen = next((failure for failure in own if failure.pid == first_dead), None)
    return seen or next(iter(own), None)


def _capsule(run: RunFolder, cause: RankFailure) -> str:
    """The newest one that tells the same; an earlier attempt's, if that failed alike."""
    for capsule in reversed(capsules_in(run.capsules)):
        try:
            document = read_document(capsule)
        except OrchestraError:  # damaged: it would be of no use
            continue
        of_nan = cause.exit_code == ExitCode.NOT_FINITE and document["reason"] == "not finite"
        if of_nan or what_happened(document) == cause.message:
            return capsule.name
    return ""


def classify(evidence: Evidence) -> Failure:
    """Name the cause."""
    failure = _of_rank(evidence, evidence.cause) if evidence.cause else _without_ranks(evidence)
    return replace(failure, step=evidence.step)


def _of_rank(evidence: Evidence, cause: RankFailure) -> Failure:
    where = f"rank {cause.rank}"
    after = f" after step {evidence.step}" if evidence.step else ""
    if cause.signal:
        return Failure(
            f"{where} was killed by {signal_name(cause.signal)}{after}{_quote(evidence.last_line)}",
            retry=True,
        )
    said = cause.message or evidence.last_line
    sentence = f"{where} failed{after} with exit code {cause.exit_code}{_quote(said)}"
    if evidence.capsule:
        replay = f"`orchestra replay {evidence.run}`"
        sentence += f"; {replay} shows more (capsule {evidence.capsule})"
    if cause.exit_code in _FIX_FIRST:
        return Failure(sentence, retry=False, remedy=_remedy(cause))
    return replace(_by_message(sentence, said), said=said)


def _remedy(cause: RankFailure) -> str:
    """Empty where the rank told it; a full disk is the one cause that is no OrchestraError."""
    told = cause.message and cause.exit_code != ExitCode.DISK_FULL
    return "" if told else _FIX_FIRST[ExitCode(cause.exit_code)]


def _without_ranks(evidence: Evidence) -> Failure:
    agent = evidence.agent
    if agent.signal:
        return Failure(f"torchrun was killed by {signal_name(agent.signal)}", retry=True)
    if agent.code == 0:
        return Failure("all ranks ended, but rank 0 left no result", retry=True)
    sentence = f"torchrun failed with exit code {agent.code}{_quote(evidence.last_line)}"
    return _by_message(sentence, evidence.last_line)


def _by_message(sentence: str, message: str) -> Failure:
    if message.startswith(_BROKEN_CODE):
        return Failure(sentence, retry=False, remedy="correct the code")
    return Failure(sentence, retry=True)


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


def _last_line(path: Path) -> str:
    """The last line that is not blank; empty if there is none, or if it only tells progress."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "" if _RECORD_LINE.match(last) else last
