"""Reads what a failed attempt left behind, and what the attempts before it had on record.

Nothing here judges: failure.py does. Files that are missing or torn are no obstacle.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestra.supervise.failure import FATAL, Blame, Evidence, Failure, blame, tells_itself
from orchestra.supervise.hang import Stall
from orchestra.supervise.reaper import ExitStatus
from orchestra.wire.capsules import capsules_in, read_document, what_happened
from orchestra.wire.errors import OrchestraError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.failures import RankFailure, read_failures
from orchestra.wire.folders import AttemptFolder, Job, RunFolder
from orchestra.wire.heartbeat import Beat
from orchestra.wire.job import Attempt

_TAIL_BYTES = 4096
_TAIL_LINES = 20
_REPORT_BYTES = 2**16  # of faulthandler: the stacks of many threads
_REPORT_LINE = 300
_BEFORE_REPORT = 5  # lines: what C++ says before it aborts


def gather(
    folder: AttemptFolder,
    agent: ExitStatus,
    first_dead: int | None,
    step: int,
    beats: Collection[Beat] = (),
    *,
    first_step: int = 0,
    stall: Stall | None = None,
) -> Evidence:
    """Collect the evidence.

    Args:
        first_dead: the pid that was seen dying first, where one was.
        step: the newest that was heard of; the beat of the rank that failed knows better.
        beats: the last of each rank.
        first_step: the step that the attempt started from.
        stall: the rank for whose sake all were killed.
    """
    if stall is not None:
        return _of_stall(folder, agent, stall, beats)
    died = _first(_failures(folder), first_dead, beats)
    if died is None:
        lines = _last_lines(folder.agent_log)
        return Evidence(agent, None, lines, step, first_step)
    log = folder.rank_log(died.rank)
    lines = (died.signal and _report(log)) or _last_lines(log)
    beat = _beat_of(died.pid, beats)
    run = RunFolder(folder.path.parents[1])
    return Evidence(
        agent,
        died,
        lines,
        (beat.step if beat else 0) or step,
        first_step,
        beat.samples if beat else (),
        _capsule(run, died),
        run.id,
    )


def failure_before(job: Job, attempt: Attempt) -> Failure | None:
    """Of the newest attempt before this one that failed; None in a new life of the job.

    Attempts that were lost with their supervisor are passed over: they tell nothing.
    """
    if attempt.failures_before == 0:
        return None
    for earlier in _attempts(job):
        if earlier.number < attempt.number and earlier.failure is not None:
            try:
                return Failure.from_json(earlier.failure)
            except (KeyError, TypeError, ValueError):  # of a newer version
                return None
    return None


def next_split(job: Job) -> int:
    """Into how many parts the next attempt cuts each micro-batch, as was decided last."""
    newest = next(_attempts(job), None)
    if newest is None:
        return 1
    return int((newest.failure or {}).get("next_split", newest.split))


def _attempts(job: Job) -> Iterator[Attempt]:
    """Those on record, newest first."""
    for folder in reversed(job.attempts()):
        with contextlib.suppress(FileNotFoundError, OrchestraError):
            yield Attempt.read(folder)


def _of_stall(
    folder: AttemptFolder, agent: ExitStatus, stall: Stall, beats: Collection[Beat]
) -> Evidence:
    stacks = folder.rank_stacks(stall.rank)
    beat = _beat_of(stall.pid, beats)
    return Evidence(
        agent,
        RankFailure(stall.rank, stall.pid, exit_code=0, signal=0, time_s=0.0, message=""),
        _last_lines(folder.rank_log(stall.rank)),
        step=stall.step,
        samples=beat.samples if beat else (),
        hang=stall.sentence,
        stacks=os.fspath(stacks) if stacks.is_file() else "",
    )


def _failures(folder: AttemptFolder) -> list[RankFailure]:
    try:
        return read_failures(folder.failures)
    except OrchestraError:  # torn by the agent's own death
        return []


def _first(
    failures: list[RankFailure], first_dead: int | None, beats: Collection[Beat]
) -> RankFailure | None:
    """The failure that the others follow from."""
    seen = next((failure for failure in failures if failure.pid == first_dead), None)
    if seen is not None and seen.signal == signal.SIGKILL:
        # A rank that fails in its first moments may not be known yet; torchrun then kills others.
        seen = next(filter(tells_itself, failures), seen)
    if seen is not None and blame(seen) <= Blame.WAITED:  # the supervisor then killed the others
        failures = [each for each in failures if each is seen or each.signal != signal.SIGKILL]
    least = min(map(blame, failures), default=Blame.OWN)
    own = [failure for failure in failures if blame(failure) == least]
    if not own or seen in own:
        return seen
    dead = None if first_dead is None else _beat_of(first_dead, beats)
    if seen is None and dead is not None and least > Blame.OWN:
        return RankFailure(dead.rank, dead.pid, exit_code=0, signal=0, time_s=0.0, message="")
    if first_dead is not None:  # who was killed since may have been so by the supervisor
        own.sort(key=lambda failure: failure.signal == signal.SIGKILL)
    return own[0]


def _beat_of(pid: int, beats: Collection[Beat]) -> Beat | None:
    return next((beat for beat in beats if beat.pid == pid), None)


def _capsule(run: RunFolder, died: RankFailure) -> str:
    """The newest one that tells the same; an earlier attempt's, if that failed alike."""
    for capsule in reversed(capsules_in(run.capsules)):
        try:
            document = read_document(capsule)
        except OrchestraError:  # damaged: it would be of no use
            continue
        of_nan = died.exit_code == ExitCode.NOT_FINITE and document["reason"] == "not finite"
        if of_nan or what_happened(document) == died.message:
            return capsule.name
    return ""


def _last_lines(path: Path) -> tuple[str, ...]:
    """What stands last in a log; nothing if it can't be read."""
    return tuple(_tail(path, _TAIL_BYTES)[-_TAIL_LINES:])


def _report(path: Path) -> tuple[str, ...]:
    """The beginning of faulthandler's: the innermost calls come first. Empty if there is none."""
    lines = _tail(path, _REPORT_BYTES)
    found = [number for number, line in enumerate(lines) if line.startswith(FATAL)]
    if not found:
        return ()
    first = max(0, found[-1] - _BEFORE_REPORT)
    return tuple(line[:_REPORT_LINE] for line in lines[first : first + _TAIL_LINES])


def _tail(path: Path, size: int) -> list[str]:
    """The lines in the last so many bytes."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = max(0, end - size)
            file.seek(start)
            text = file.read(size).decode(errors="replace")
    except OSError:
        return []
    lines = text.rstrip("\n").split("\n")
    if start and len(lines) > 1:
        del lines[0]  # its beginning is cut off
    return lines if text else []
