"""From the moment a silent rank's deadline passes to its death: one stopped, one asleep.

Counted from the rank's last heartbeat, by the one clock of the machine that both sides read.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.wire.heartbeat import Beat, pages_folder, read_beats
from orchestra.wire.job import Attempt
from orchestra.wire.states import ENDED, RunState
from tests.benchmarks.table import Row
from tests.benchmarks.victims import Part, real_job
from tests.chaos.sandbox import Sandbox

TRIALS = 8
DEADLINE_S = 2.0
_LONGEST_S = 60.0


def measure() -> list[Row]:
    """Both kinds of silence."""
    bar = "<= deadline + 1 s"
    return [
        Row(
            "SIGSTOP of a rank to its death",
            _late(_stopped()),
            bar,
            f"{TRIALS} trials, 2 real ranks, deadline {DEADLINE_S:g} s",
        ),
        Row(
            "a rank that sleeps to its death",
            _late(_asleep()),
            bar,
            f"{TRIALS} trials, a stand-in rank, deadline {DEADLINE_S:g} s",
        ),
    ]


def _late(silences_s: Sequence[float]) -> str:
    late_s = [silence_s - DEADLINE_S for silence_s in silences_s]
    return f"deadline + {statistics.median(late_s):.2f} s, worst + {max(late_s):.2f}"


def _stopped() -> list[float]:
    """Real ranks."""
    silences_s = []
    with real_job("--set", f"launch.step_deadline_s={DEADLINE_S}") as victim:
        for trial in range(TRIALS):
            attempt = victim.at_work()
            rank = victim.processes(Part.RANK, attempt)[trial % 2]
            os.kill(rank.pid, signal.SIGSTOP)
            silences_s.append(_silence_until_death(attempt, rank.pid))
    return silences_s


def _asleep() -> list[float]:
    """Stand-ins: each waits in a step for a file to go that nobody removes."""
    silences_s = []
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        sandbox = Sandbox(Path(folder))
        try:
            for _ in range(TRIALS):
                launch = {"step_deadline_s": DEADLINE_S, "max_restarts": 0}
                job = sandbox.start(sandbox.add_run(hold=True, nproc=1, launch=launch))
                attempt = sandbox.held(job)
                silences_s.append(_silence_until_death(attempt, attempt.ranks[0]))
                state = sandbox.wait_state(job, ENDED)
                assert state.state == RunState.FAILED and "hung" in state.reason, state.reason
        finally:
            sandbox.clean()
    return silences_s


def _silence_until_death(attempt: Attempt, pid: int) -> float:
    """Seconds from its last heartbeat to its end."""
    pidfd = os.pidfd_open(pid)
    try:
        last = _beat(attempt, pid)
        died, _, _ = select.select([pidfd], [], [], _LONGEST_S)
        now = time.monotonic()
    finally:
        os.close(pidfd)
    assert died, f"pid {pid} was still alive {_LONGEST_S:g} s after its last heartbeat"
    return now - last.monotonic_ns / 1e9


def _beat(attempt: Attempt, pid: int) -> Beat:
    beats = read_beats(pages_folder(attempt.tag))
    return next(beat for beat in beats if beat.pid == pid)
