"""Many runs at once on one machine: do all end well, and does the registry tell the truth?"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunFolder, RunsFolder
from orchestra.wire.job import RUN, Attempt, JobState
from orchestra.wire.states import ENDED, AttemptState, RunState
from tests.benchmarks.procfs import arguments, pids
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA, fresh_workspace

RUNS = 20
COMMAND = [
    *("run", "example", "--preset", "debug", "--cpu", "--nproc", "1", "--quiet", "--detach"),
    *("--set", "launch.max_restarts=2"),
]
_LONGEST_S = 900.0
_GOODBYE_S = 10.0  # supervisors and conductor look once more for work before they end
_LOOK_S = 0.2


def measure() -> list[Row]:
    """All are asked for in the same moment."""
    with fresh_workspace() as workspace:
        started = time.monotonic()
        asked = [
            subprocess.Popen(
                [ORCHESTRA, *COMMAND],
                cwd=workspace,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(RUNS)
        ]
        answers = [(each, *each.communicate()) for each in asked]
        refused = [said for each, _, said in answers if each.returncode != 0]
        runs = [RunFolder(workspace / "runs" / out.strip()) for _, out, said in answers if out]
        live, processes = _watch(runs, started + _LONGEST_S)
        took_s = time.monotonic() - started
        left = len(_left(workspace, runs))
        completed = sum(JobState.read(run.job).state == RunState.COMPLETED for run in runs)
        untrue = _untrue(RunsFolder(workspace / "runs"), runs)
    for sentence in (*refused, *untrue):
        print(f"many_runs: {sentence.strip()}")
    how = f"`run example --detach` {RUNS} times in one moment, 1 CPU rank each"
    return [
        Row(f"{RUNS} runs at once: completed", f"{completed}", f"{RUNS}", how),
        Row("... of which registry, folder and attempts disagree", f"{len(untrue)}", "0", how),
        Row("... processes left", f"{left}", "0", f"within {_GOODBYE_S:g} s of the last end"),
        Row("... from the first command to the last end", f"{took_s:.0f} s", "", how),
        Row("... at work at the same time", f"{live} runs, {processes} processes", "", "at most"),
    ]


def _watch(runs: Iterable[RunFolder], deadline: float) -> tuple[int, int]:
    """Until all have ended: how many were at work at once, and with how many tagged processes."""
    most_runs = most_processes = 0
    while time.monotonic() < deadline:
        states = [JobState.read(run.job).state for run in runs]
        live = sum(state not in ENDED and state != RunState.QUEUED for state in states)
        most_runs = max(most_runs, live)
        most_processes = max(most_processes, len(_tagged(runs)))
        if all(state in ENDED for state in states):
            break
        time.sleep(_LOOK_S)
    return most_runs, most_processes


def _left(workspace: Path, runs: Iterable[RunFolder]) -> list[int]:
    """What does not end by itself: of an attempt, or of the workspace as a whole."""
    deadline = time.monotonic() + _GOODBYE_S
    while True:
        own = [pid for pid in pids() if any(str(workspace) in word for word in arguments(pid))]
        left = sorted({*own, *_tagged(runs)})
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_LOOK_S)


def _tagged(runs: Iterable[RunFolder]) -> list[int]:
    """Processes of attempts of these runs."""
    marks = {f"{RUN}={run.id}".encode() for run in runs}
    return [pid for pid in pids() if marks & set(_environment(pid))]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _untrue(folder: RunsFolder, runs: Iterable[RunFolder]) -> list[str]:
    """A sentence for each run of which the registry says something else than its folder."""
    wrong = []
    with open_registry(folder) as registry:
        for run in runs:
            state, row = JobState.read(run.job), registry.get_run(run.id)
            attempts = [Attempt.read(each) for each in run.job.attempts()]
            told = (row.state, row.reason, row.attempt, tuple(registry.attempts(JobKey(run.id))))
            true = (state.state, state.reason, state.attempt, tuple(attempts))
            ends = [attempt.state for attempt in attempts]
            as_meant = ends and ends[-1] == AttemptState.COMPLETED
            if told != true or (state.state == RunState.COMPLETED) != as_meant:
                wrong.append(f"{run.id}: {state}, {row}, {ends}")
    return wrong
