"""SIGKILL of each part of a run: when it is noticed, when all of it is gone, and what is left.

An orphan is a process of the attempt that still lives `_ORPHAN_S` after the kill; a rank that lost
its loader worker ends by an exception and has more time. No one else may sweep meanwhile: where the
supervisor is killed, the next one is started when the verdict is known.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from orchestra.supervise import tree
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import Attempt
from tests.benchmarks.table import Row
from tests.benchmarks.victims import Part, Victim, real_job, standin_job
from tests.chaos.sandbox import wait_for

REAL_TRIALS = 20
STANDIN_TRIALS = 100
_ORPHAN_S = 2.0
_RAISING_S = 10.0
_LOOK_S = 0.002


@dataclass(frozen=True)
class Trial:
    """One kill. Seconds from it on; infinite where orphans were left."""

    ranks_gone_s: float
    """No rank and no loader worker is alive."""
    all_gone_s: float
    """Nor is any other process of the attempt."""
    noticed_s: float | None
    """The supervisor has written that the rank died; None if it was no rank that was killed."""
    orphans: int


def measure() -> list[Row]:
    """Real ranks."""
    return _rows("real ranks", real_job, REAL_TRIALS)


def measure_standins() -> list[Row]:
    """Ranks without torch."""
    return _rows("stand-in ranks", standin_job, STANDIN_TRIALS)


def _rows(ranks: str, start: Callable[[], AbstractContextManager[Victim]], count: int) -> list[Row]:
    trials: dict[Part, list[Trial]] = {}
    for part in Part:
        with start() as victim:
            trials[part] = [_kill(victim, part, number) for number in range(count)]
            victim.at_work()  # after the last kill too
    noticed_ms = [1e3 * each.noticed_s for each in trials[Part.RANK] if each.noticed_s is not None]
    how = f"{count} trials, {ranks}"
    return [
        Row("SIGKILL of a rank to the supervisor's word of it", _ms(noticed_ms), "<= 50 ms", how),
        *(_row(part, trials[part], how) for part in Part),
    ]


def _row(part: Part, trials: Sequence[Trial], how: str) -> Row:
    ranks = _s([each.ranks_gone_s for each in trials])
    everything = _s([each.all_gone_s for each in trials])
    orphans = sum(each.orphans for each in trials)
    return Row(
        f"SIGKILL of the {part}: ranks gone; all gone; orphans",
        f"{ranks}; {everything}; {orphans}",
        "<= 1 s; -; 0",
        how,
    )


def _kill(victim: Victim, part: Part, number: int) -> Trial:
    attempt = victim.at_work()
    ranks = [*victim.processes(Part.RANK, attempt), *victim.processes(Part.WORKER, attempt)]
    # A launcher outlives an attempt, and the next one has the same tag: these very processes.
    falls = part in (Part.LAUNCHER, Part.SUPERVISOR)
    launchers = victim.processes(Part.LAUNCHER, attempt) if falls else []
    choice = victim.processes(part, attempt)
    target = choice[number % len(choice)]
    killed_at, started = time.time(), time.monotonic()
    os.kill(target.pid, signal.SIGKILL)

    patience_s = _RAISING_S if part is Part.WORKER else _ORPHAN_S
    ranks_gone_s = all_gone_s = float("inf")
    left: list[ProcessIdentity] = []
    while time.monotonic() < started + patience_s:
        if ranks_gone_s > patience_s and not _alive(ranks):
            ranks_gone_s = time.monotonic() - started
        left = tree.tagged(attempt.tag) + _alive(launchers)
        if not left:
            all_gone_s = time.monotonic() - started
            break
        time.sleep(_LOOK_S)
    noticed_s = _noticed_at(victim, attempt, target) - killed_at if part is Part.RANK else None
    if part is Part.SUPERVISOR:
        victim.revive()
    return Trial(min(ranks_gone_s, all_gone_s), all_gone_s, noticed_s, len(left))


def _alive(processes: Sequence[ProcessIdentity]) -> list[ProcessIdentity]:
    return [process for process in processes if process.is_alive()]


def _noticed_at(victim: Victim, attempt: Attempt, rank: ProcessIdentity) -> float:
    """Unix time of the line in supervisor.log, which is cut to milliseconds."""
    said = f" the rank with pid {rank.pid} died"

    def line() -> str | None:
        lines = victim.job.supervisor_log.read_text().splitlines()
        return next((line for line in reversed(lines) if line.endswith(said)), None)

    found: str = wait_for(f"word of rank {rank.pid} of attempt {attempt.number}", line)
    return datetime.fromisoformat(found.removesuffix(said)).timestamp()


def _s(values_s: Sequence[float]) -> str:
    return f"{statistics.median(values_s):.2f} s, worst {max(values_s):.2f}"


def _ms(values_ms: Sequence[float]) -> str:
    return f"{statistics.median(values_ms):.0f} ms, worst {max(values_ms):.0f}"
