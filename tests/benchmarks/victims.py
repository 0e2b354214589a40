"""Jobs that are there to be killed: real ranks, and stand-in ranks without torch (tests/chaos).

Both have loader workers, save often, and go on until they are stopped.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.schedule.dispatch import dispatch
from orchestra.supervise import tree
from orchestra.supervise.tail import newest_checkpoint
from orchestra.wire.folders import Job, RunFolder, RunsFolder
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace
from tests.benchmarks.procfs import parent
from tests.benchmarks.workspaces import fresh_workspace, orchestra
from tests.chaos import sandbox as chaos
from tests.chaos.sandbox import Sandbox, wait_for

SAVE_EVERY = 20  # steps
RUN = [
    *("run", "example", "--cpu", "--nproc", "2", "--quiet", "--detach"),
    *("--set", "train.max_steps=1000000", "--set", "train.eval_every=1000000"),
    *("--set", f"checkpoint.every={SAVE_EVERY}", "--set", "data.workers=1"),
    *("--set", "task.delay_s=0.01"),
]
LONGEST_S = 120.0
_HERE = Path(__file__).parent


class Part(StrEnum):
    """What is killed."""

    RANK = "rank"
    WORKER = "loader worker"
    AGENT = "agent (torchrun)"
    LAUNCHER = "launcher"
    SUPERVISOR = "supervisor"


class Victim(ABC):
    """A job at work."""

    def __init__(self, workspace: Workspace, job: Job) -> None:
        self.workspace = workspace
        self.job = job

    def at_work(self) -> Attempt:
        """The newest attempt, once it has saved and all its ranks and workers are there.

        Raises:
            RuntimeError: the run has ended.
        """
        attempt: Attempt = wait_for("an attempt at work", self._at_work, LONGEST_S)
        return attempt

    def processes(self, part: Part, attempt: Attempt) -> list[ProcessIdentity]:
        """Those of this kind, by rank where there are several."""
        if part is Part.SUPERVISOR:
            found = JobState.read(self.job).supervisor
            return [] if found is None else [found]
        if part is Part.AGENT:
            return [] if attempt.agent is None else [attempt.agent]
        if part is Part.LAUNCHER:
            return tree.tagged(attempt.launcher)
        tagged = tree.tagged(attempt.tag)
        if part is Part.RANK:
            return sorted(
                (each for each in tagged if each.pid in attempt.ranks),
                key=lambda each: attempt.ranks.index(each.pid),
            )
        return [each for each in tagged if parent(each.pid) in attempt.ranks]

    def revive(self) -> None:
        """Give it a new supervisor, unless it has one by now."""
        dispatch(self.workspace)

    @abstractmethod
    def end(self) -> None:
        """Leave nothing running."""

    def _at_work(self) -> Attempt | None:
        state = JobState.read(self.job)
        if state.state in ENDED:
            raise RuntimeError(f"run {self.job.run.id} ended: {state.state}: {state.reason}")
        if state.state != RunState.RUNNING:
            return None
        attempt = Attempt.read(self.job.attempt(state.attempt))
        beats = read_beats(pages_folder(attempt.tag))
        if any(beat.step < attempt.first_step + SAVE_EVERY for beat in beats):
            return None
        saved = newest_checkpoint(self.job.run)
        ready = (
            saved > attempt.first_step
            and len(attempt.ranks) == len(beats) == attempt.world_size
            and all(beat.step > saved for beat in beats)
            and len(self.processes(Part.WORKER, attempt)) == attempt.world_size
        )
        return attempt if ready else None


class _Real(Victim):
    def end(self) -> None:
        orchestra(self.workspace.root, "stop", self.job.run.id, "--now")


class _StandIn(Victim):
    def __init__(self, sandbox: Sandbox, job: Job) -> None:
        super().__init__(sandbox.workspace, job)
        self._sandbox = sandbox

    def end(self) -> None:
        self._sandbox.clean()


@contextmanager
def real_job(*options: str) -> Iterator[Victim]:
    """The example task on two CPU ranks."""
    with fresh_workspace() as root:
        run_id = orchestra(root, *RUN, *options).strip()
        workspace = Workspace(root, RunsFolder(root / "runs"))
        yield from _until_ended(_Real(workspace, RunFolder(root / "runs" / run_id).job))


@contextmanager
def standin_job() -> Iterator[Victim]:
    """Two ranks that only beat, write records and save."""
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        sandbox = Sandbox(Path(folder))
        sandbox.lay_out(chaos.HERE / "standin_agent.py", _HERE / "loading_rank.py")
        train = sandbox.code / "orchestra" / "train"
        shutil.copy(chaos.HERE / "standin_rank.py", train / "plain_rank.py")
        job = sandbox.start(sandbox.add_run(steps=1_000_000, save_every=SAVE_EVERY))
        yield from _until_ended(_StandIn(sandbox, job))


def _until_ended(victim: Victim) -> Iterator[Victim]:
    try:
        yield victim
    finally:
        victim.end()
