"""`python -m tests.benchmarks.tui_writer ROOT RUNS RATE`: RUNS of the registry work from now on.

Says `ready`, then lets each take a step RATE times a second, in its heartbeat page and in its row,
until its standard input ends.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import sys
import time
from pathlib import Path

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from orchestra.wire.identity import self_identity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, find_workspace


def main() -> None:
    workspace, count, rate = find_workspace(Path(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])
    with open_registry(workspace.runs) as registry, contextlib.ExitStack() as stack:
        rows = registry.list_runs(limit=count)
        hearts = {row.id: _start(workspace, registry, row.id, stack) for row in rows}
        print("ready", flush=True)
        step, due = 0, time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            step, due = step + 1, max(due + 1 / rate, time.monotonic())
            for heart in hearts.values():
                heart.beat(step, Phase.FORWARD)
            with registry.bulk():
                for run_id in hearts:
                    registry.progress(run_id, step, {"loss": 1 / step, "eta_s": 1e6 - step})


def _start(
    workspace: Workspace, registry: Registry, run_id: str, stack: contextlib.ExitStack
) -> Heartbeat:
    """As its supervisor would say it; this process is supervisor and rank."""
    me, now_s = self_identity(), time.time()
    tag = f"{run_id}.1.benchmark{me.pid}"
    job = workspace.runs.run(run_id).job
    job.folder.mkdir()
    stack.callback(shutil.rmtree, job.folder)
    state = JobState(RunState.RUNNING, "", 1, now_s, me)
    state.write(job)
    registry.restore(JobKey(run_id), state, now_s, None)
    registry.start_attempt(JobKey(run_id), Attempt(1, tag, 1, (), now_s))
    heart = Heartbeat(pages_folder(tag), 0)
    stack.callback(heart.remove)
    return heart


if __name__ == "__main__":
    main()
