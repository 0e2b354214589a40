"""What a supervisor costs beside a quiet run, and what the warm launcher and the conductor do."""

from __future__ import annotations

import time
from pathlib import Path

from orchestra.supervise import tree
from orchestra.wire.folders import Job, RunFolder
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.job import Attempt, JobState
from tests.benchmarks.procfs import arguments, cpu_s, memory, pids
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import fresh_workspace, orchestra
from tests.chaos.sandbox import wait_for

QUIET_S = 20.0
RUN = [
    *("run", "example", "--cpu", "--nproc", "2", "--quiet", "--detach"),
    *("--set", "train.max_steps=100000", "--set", "train.eval_every=100000"),
    *("--set", "task.delay_s=0.5"),
]
_AT_WORK = 3  # steps
_LONGEST_S = 120.0
_CONDUCTOR = "orchestra.schedule.conductor"


def measure() -> list[Row]:
    """One run of two ranks, with a step in each second and a record in every fifth."""
    with fresh_workspace() as workspace:
        run_id = orchestra(workspace, *RUN).strip()
        job = RunFolder(workspace / "runs" / run_id).job
        try:
            return _rows(workspace, job)
        finally:
            orchestra(workspace, "stop", run_id, "--now")


def _rows(workspace: Path, job: Job) -> list[Row]:
    wait_for("the first steps", lambda: _step(job) >= _AT_WORK, _LONGEST_S)
    supervisor = JobState.read(job).supervisor
    assert supervisor is not None
    (launcher,) = tree.tagged(Attempt.read(job.attempt(1)).launcher)
    named = [("supervisor", supervisor.pid, "<= 30 MB, <= 0.5 %"), ("launcher", launcher.pid, "-")]
    named += [("conductor", pid, "-") for pid in _conductors(workspace)]
    before = {pid: cpu_s(pid) for _, pid, _ in named}
    time.sleep(QUIET_S)
    return [_row(name, pid, cpu_s(pid) - before[pid], bar) for name, pid, bar in named]


def _row(name: str, pid: int, busy_s: float, bar: str) -> Row:
    used = memory(pid)
    return Row(
        f"{name}: resident, its share of shared pages, CPU",
        f"{used.resident_mb:.1f} MB, {used.share_mb:.1f} MB, {busy_s / QUIET_S:.2%} of a core",
        bar,
        f"{QUIET_S:g} s of a quiet run of 2 CPU ranks",
    )


def _step(job: Job) -> int:
    if not job.attempt(1).attempt.is_file():
        return 0
    beats = read_beats(pages_folder(Attempt.read(job.attempt(1)).tag))
    return max((beat.step for beat in beats), default=0)


def _conductors(workspace: Path) -> list[int]:
    """Of this workspace."""
    asked = str(workspace / "runs")
    return [pid for pid in pids() if {_CONDUCTOR, asked} <= set(arguments(pid))]
