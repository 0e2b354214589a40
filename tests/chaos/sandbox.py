"""A workspace whose runs execute stand-in ranks: real supervisors, processes, signals and files.

Every attempt runs the code snapshot, so a snapshot that holds a stand-in agent is all it takes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import tomli_w

import orchestra
from orchestra.registry.rows import Demand, JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.conductor import conductor_is_alive
from orchestra.schedule.dispatch import dispatch
from orchestra.supervise import tree
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.files import read_json, write_json
from orchestra.wire.folders import Job, RunFolder, RunsFolder
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace

PATIENCE_S = 100.0
HERE = Path(__file__).parent
PACKAGE = Path(orchestra.__file__).parent


def wait_for(what: str, condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(0.01)
    return value


class Sandbox:
    """Made by the fixture `sandbox`, which leaves nothing of it running."""

    patience_s = PATIENCE_S
    """For a run to end."""

    def __init__(self, root: Path) -> None:
        for name in ("tasks", "presets", "runs"):
            (root / name).mkdir(parents=True)
        self.workspace = Workspace(root, RunsFolder(root / "runs"))
        self.code = self.workspace.runs.snapshot("standin")
        self.lay_out(HERE / "standin_agent.py", HERE / "standin_rank.py")
        self.jobs: list[Job] = []

    def lay_out(self, agent: Path, rank: Path) -> None:
        """Make the code snapshot of all runs."""
        shutil.rmtree(self.code, ignore_errors=True)
        train = self.code / "orchestra" / "train"
        train.mkdir(parents=True)
        for package in (train, train.parent):
            (package / "__init__.py").touch()
        (train.parent / "wire").symlink_to(PACKAGE / "wire")
        for name in ("launcher.py", "warm.py", "forked.py"):
            shutil.copy(PACKAGE / "train" / name, train)
        for name in ("session.py", "trainer.py", "final.py"):  # which the real agent preloads
            (train / name).touch()
        shutil.copy(agent, train / "agent.py")
        shutil.copy(rank, train / "rank.py")

    def add_run(
        self,
        *,
        hold: bool = False,
        nproc: int = 2,
        launch: dict[str, Any] | None = None,
        run_id: str | None = None,
        demand: Demand = Demand(),
        parent: str = "",
        **task: Any,
    ) -> Job:
        """A queued run; keyword arguments are keys of the stand-in's task table.

        How many GPUs it wants says the launch table.
        """
        run_id = run_id or f"r{len(self.jobs)}-{os.urandom(3).hex()}"
        run = self.workspace.runs.run(run_id)
        run.path.mkdir()
        if hold:
            (run.path / "hold").touch()
            task["hold"] = 6
        config = {
            "task": {"kind": "standin", "steps": 12, "save_every": 5, **task},
            "upstream": {"kind": "none"},
            "train": {"max_steps": 12},
            "launch": {
                "device": "cpu",
                "gpu_ids": [],
                "nproc": nproc,
                "threads": 1,
                "max_restarts": 2,
                "backoff_s": 0.0,
                "grace_s": 20.0,
                **(launch or {}),
            },
        }
        run.job.config.write_text(tomli_w.dumps(config))
        write_json(run.identity, {"id": run_id, "created_at": time.time()})
        write_json(run.provenance, {"code": "standin"})
        JobState(RunState.QUEUED, "", 0, time.time()).write(run.job)
        with self.registry() as registry:
            registry.create_run(
                NewRun(
                    *(run_id, run_id, "standin", "none", time.time(), 12, "0"),
                    demand=demand,
                    parent=parent,
                )
            )
        self.jobs.append(run.job)
        return run.job

    def registry(self) -> Registry:
        return open_registry(self.workspace.runs)

    def start(self, job: Job) -> Job:
        """Dispatch; the job has a supervisor then."""
        assert JobKey(job.run.id) in dispatch(self.workspace)
        return job

    def supervise(self, job: Job) -> subprocess.Popen[bytes]:
        """A supervisor of our own, outside dispatch."""
        command = [sys.executable, "-m", "orchestra.supervise", str(job.folder), "--kind", job.kind]
        folders = ["--runs", self.workspace.runs.path, "--workspace", self.workspace.root]
        return subprocess.Popen([*command, *folders], stderr=subprocess.PIPE)

    def supervisor(self, job: Job) -> ProcessIdentity:
        found = JobState.read(job).supervisor
        assert found is not None
        return found

    def kill_supervisor(self, job: Job) -> None:
        """SIGKILL; returns when it is dead."""
        process = self.supervisor(job)
        os.kill(process.pid, signal.SIGKILL)
        wait_for("the supervisor's death", lambda: not process.is_alive())

    def attempts(self, job: Job) -> list[Attempt]:
        return [Attempt.read(folder) for folder in job.attempts() if folder.attempt.is_file()]

    def held(self, job: Job) -> Attempt:
        """The newest attempt, once all its ranks stand at the step where they are held."""

        def all_there() -> Attempt | None:
            attempts = self.attempts(job)
            if not attempts or len(attempts[-1].ranks) < attempts[-1].world_size:
                return None
            beats = read_beats_of(attempts[-1])
            there = len(beats) == attempts[-1].world_size and all(b.step == 6 for b in beats)
            return attempts[-1] if there else None

        attempt: Attempt = wait_for("all ranks at step 6", all_there)
        return attempt

    def release(self, job: Job) -> None:
        """Let held ranks go on."""
        (job.folder / "hold").unlink()

    def stop(self, job: Job, *, now: bool = True) -> None:
        stop_job(self.workspace, JobKey(job.run.id), now=now)

    def wait_state(self, job: Job, states: Collection[RunState]) -> JobState:
        try:
            wait_for(
                f"{sorted(states)}", lambda: JobState.read(job).state in states, self.patience_s
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(job)}") from None
        return JobState.read(job)

    def wait_end(self, job: Job) -> JobState:
        """The last state, when the supervisor has gone too and the registry says the same."""
        state = self.wait_state(job, ENDED)
        key = JobKey(job.run.id)
        with self.registry() as registry:
            wait_for(
                f"the registry to say {state.state}",
                lambda: registry.get_run(key.run_id).state == state.state,
            )
        return state

    def alive(self, job: Job) -> list[ProcessIdentity]:
        """All processes of all attempts; launchers apart."""
        return [process for item in self.attempts(job) for process in tree.tagged(item.tag)]

    def launchers(self, job: Job) -> list[ProcessIdentity]:
        """Those that fork the attempts' agents."""
        tags = {item.launcher for item in self.attempts(job)}
        return [process for tag in tags for process in tree.tagged(tag)]

    def log(self, job: Job) -> str:
        return job.supervisor_log.read_text() if job.supervisor_log.is_file() else ""

    def story(self, job: Job) -> str:
        """All that is known of a job that does not do what a test expects."""
        logs = [job.supervisor_log, *sorted(job.folder.glob("attempts/*/logs/*.log"))]
        said = [f"--- {path.name}\n{path.read_text()}" for path in logs if path.is_file()]
        alive = [tree.describe(process.pid) for process in self.alive(job)]
        return "\n".join([f"{JobState.read(job)}", *said, f"alive: {alive}"])

    def clean(self) -> None:
        """Leave nothing running. The conductor goes first, as it revives, and last: any supervisor
        may have started another; one that starts later still finds no work, and ends."""
        end_conductor(self.workspace.runs)
        self._end_jobs()
        with self.registry() as registry:
            for job in self.jobs:
                with contextlib.suppress(NotFoundError):
                    registry.delete_run(job.run.id)
        end_conductor(self.workspace.runs)
        self._end_jobs()

    def _end_jobs(self) -> None:
        for job in self.jobs:
            supervisor = JobState.read(job).supervisor
            if supervisor is not None and supervisor.is_alive():
                os.kill(supervisor.pid, signal.SIGKILL)
            for attempt in self.attempts(job):
                for tag in (attempt.tag, attempt.launcher):
                    tree.sweep(tag, 5.0)
                    if tag:
                        shutil.rmtree(pages_folder(tag), ignore_errors=True)


def conductor(runs: RunsFolder) -> ProcessIdentity | None:
    """Who conducts, once it has told its name; None if nobody does."""

    def holder() -> ProcessIdentity | str | None:
        if not conductor_is_alive(runs):
            return "nobody"
        try:
            found = ProcessIdentity.from_json(read_json(runs.conductor_lock))
        except (FileNotFoundError, OrchestraError):
            return None
        return found if found.is_alive() else None

    found = wait_for("the conductor's name", holder)
    return found if isinstance(found, ProcessIdentity) else None


def end_conductor(runs: RunsFolder) -> None:
    """SIGKILL to whoever conducts; returns when nobody does."""
    while (process := conductor(runs)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        wait_for("the conductor's death", lambda process=process: not process.is_alive())


def read_beats_of(attempt: Attempt) -> list[Any]:
    return read_beats(pages_folder(attempt.tag))


__all__ = ["RunFolder", "Sandbox", "conductor", "end_conductor", "wait_for"]
