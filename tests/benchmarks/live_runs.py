"""Runs that look at work to whoever watches, all told of in a second: 50 rows, 50 heartbeats.

In a process of its own (`python -m tests.benchmarks.live_runs WORKSPACE`) until it is ended; with
`--asked` as a second word, a second goes by for each line on stdin, answered by the step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from orchestra.registry.metrics import MetricStore
from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from orchestra.wire.identity import self_identity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.records import Record
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, find_workspace

COUNT = 50
MAX_STEPS = 10_000_000
READY = "at work"
_POINTS = 2_000  # of a run's curve at the beginning


class LiveRuns:
    """The newest runs of a workspace, brought to work by this process."""

    def __init__(self, workspace: Workspace) -> None:
        self._registry = open_registry(workspace.runs)
        self.step = _POINTS
        self.ids = [row.id for row in self._registry.list_runs(limit=COUNT)]
        self._hearts: dict[str, Heartbeat] = {}
        self._stores: dict[str, MetricStore] = {}
        for run_id in self.ids:
            self._hearts[run_id] = _bring_to_work(self._registry, workspace, run_id)
            store = MetricStore(workspace.runs.run(run_id).metrics)
            store.append(1, [Record("start", 0, time.time(), {"step": 0})])
            store.append(1, [_record(step) for step in range(1, _POINTS)])
            self._stores[run_id] = store

    def tell(self, run_id: str) -> None:
        """What its supervisor and its rank write once in a second."""
        self._hearts[run_id].beat(self.step, Phase.FORWARD)
        record = _record(self.step)
        self._stores[run_id].append(1, [record])
        told = {"loss": record.values["loss"], "eta_s": 1e5 - self.step, "max_steps": MAX_STEPS}
        self._registry.progress(run_id, self.step, told)

    def tell_all(self) -> None:
        """A step of each of them, at once."""
        self.step += 1
        with self._registry.bulk():
            for run_id in self.ids:
                self.tell(run_id)

    def go_on(self) -> Iterator[None]:
        """A step of each of them in every second, spread over it as 50 supervisors would."""
        due_s = time.monotonic()
        while True:
            self.step += 1
            for run_id in self.ids:
                self.tell(run_id)
                due_s += 1.0 / COUNT
                yield
                time.sleep(max(0.0, due_s - time.monotonic()))

    def close(self) -> None:
        for heart in self._hearts.values():
            heart.remove()
        for store in self._stores.values():
            store.close()
        self._registry.close()


def _bring_to_work(registry: Registry, workspace: Workspace, run_id: str) -> Heartbeat:
    supervisor, key, folder = self_identity(), JobKey(run_id), workspace.runs.run(run_id)
    folder.path.mkdir(exist_ok=True)
    tag = f"{run_id}.1.benchmark{os.getpid()}"
    registry.transition(key, [RunState.COMPLETED], RunState.STARTING, supervisor=supervisor)
    registry.transition(key, [RunState.STARTING], RunState.RUNNING, supervisor=supervisor)
    registry.start_attempt(key, Attempt(1, tag, 1, (), time.time(), ranks=(os.getpid(),)))
    registry.relabel(run_id, name=f"live-{run_id}", tags=(), remark=remark_of(run_id))
    JobState(RunState.RUNNING, "", 1, time.time(), supervisor).write(folder.job)
    return Heartbeat(pages_folder(tag), 0)


def remark_of(run_id: str) -> str:
    """What the line under the table alone tells of the run."""
    return f"about-{run_id}"


def _record(step: int) -> Record:
    loss = 3.0 / (1 + step / 500) + (step * 7919 % 100) / 1000
    return Record("train", step, time.time(), {"loss": loss, "lr": 1e-4, "steps_per_s": 1.0})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # no heartbeat page is left
    live = LiveRuns(find_workspace(Path(sys.argv[1])))
    print(READY, flush=True)
    with contextlib.closing(live):
        if "--asked" in sys.argv:
            for _ in sys.stdin:
                live.tell_all()
                print(live.step, flush=True)
        else:
            for _ in live.go_on():
                if os.getppid() == 1:  # who started it is gone
                    return


if __name__ == "__main__":
    main()
