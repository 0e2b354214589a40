"""Looking at a job until it has ended. Whoever watches also revives jobs that lost their
supervisor and starts jobs whose devices have become free."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestra.registry.rows import EvaluationRow, JobKey, RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.dispatch import dispatch
from orchestra.supervise.jobs import job_of
from orchestra.wire.errors import NotFoundError, OrchestraError, WaitTimeoutError
from orchestra.wire.files import is_disk_full
from orchestra.wire.job import JobState
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace

_POLL_S = 0.1
_REVIVE_EVERY_S = 1.0
_START_EVERY_S = 5.0
#: So many supervisors in a row that get no attempt started, and there will be no more.
_MOST_REVIVALS = 5
#: An ended job's supervisor frees its devices and goes within a moment.
_GOODBYE_S = 10.0


@dataclass(frozen=True)
class View:
    """A job at one moment. `evaluation` is None for the run itself."""

    key: JobKey
    run: RunRow
    evaluation: EvaluationRow | None

    @property
    def state(self) -> RunState:
        return self.run.state if self.evaluation is None else self.evaluation.state

    @property
    def reason(self) -> str:
        return self.run.reason if self.evaluation is None else self.evaluation.reason

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def look(registry: Registry, key: JobKey) -> View:
    """The job now (NotFoundError)."""
    run = registry.get_run(key.run_id)
    if key.evaluation is None:
        return View(key, run, None)
    for row in registry.evaluations(key.run_id):
        if row.number == key.evaluation:
            return View(key, run, row)
    raise NotFoundError(f"run {key.run_id} has no evaluation {key.evaluation}")


def watch(workspace: Workspace, key: JobKey, *, poll_s: float = _POLL_S) -> Iterator[View]:
    """The job again and again; the last view is of its end, when its supervisor has gone too.

    Raises:
        NotFoundError: it was removed.
        OrchestraError: its supervisors die as fast as they are started, or could write nothing.
    """
    next_start = time.monotonic() + _START_EVERY_S
    next_revival = time.monotonic()
    revivals = Revivals(workspace, key)
    with open_registry(workspace.runs) as registry:
        while True:
            view = look(registry, key)
            if view.ended:
                break
            yield view
            now = time.monotonic()
            if view.state == RunState.QUEUED and now >= next_start:
                dispatch(workspace)
                next_start = now + _START_EVERY_S
            elif view.state in LIVE and now >= next_revival:
                if abandoned(workspace, key):
                    revivals.revive()
                next_revival = now + _REVIVE_EVERY_S
            time.sleep(poll_s)
        _wait_for_goodbye(workspace, key)
        yield view


class Revivals:
    """Gives the job new supervisors, but not for ever: what killed one may kill them all."""

    def __init__(self, workspace: Workspace, key: JobKey) -> None:
        self._workspace = workspace
        self._job = job_of(workspace.runs, key)
        self._key = key
        self._attempt = -1
        self._count = 0

    def revive(self) -> None:
        """Dispatch.

        Raises:
            OrchestraError: the disk is full, or the last few supervisors started no attempt.
        """
        verb = "resume" if self._key.evaluation is None else "wait"
        then = f"then `orchestra {verb} {self._key.run_id}`"
        if is_disk_full(self._job.folder):
            raise OrchestraError(
                f"the supervisor of {self._key} died: the disk of {self._workspace.runs.path} is "
                f"full; make room, {then}"
            )
        attempt = JobState.read(self._job).attempt
        self._count = self._count + 1 if attempt == self._attempt else 1
        self._attempt = attempt
        if self._count > _MOST_REVIVALS:
            raise OrchestraError(
                f"the supervisor of {self._key} died, and so did {_MOST_REVIVALS} new ones before "
                f"they could start an attempt: mend what {self._job.supervisor_log} names, {then}"
            )
        dispatch(self._workspace)


def wait_for(workspace: Workspace, key: JobKey, timeout_s: float | None) -> View:
    """The job's end.

    Raises:
        WaitTimeoutError: it has not ended after `timeout_s`.
        NotFoundError: it was removed.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for view in watch(workspace, key):
        if view.ended:
            return view
        if deadline is not None and time.monotonic() >= deadline:
            break
    raise WaitTimeoutError(f"{key} is still {view.state.value} after {timeout_s:g} s")


def unfinished_evaluations(workspace: Workspace, run_id: str) -> list[JobKey]:
    """Evaluations of the run that are queued or at work."""
    with open_registry(workspace.runs) as registry:
        return [
            JobKey(run_id, row.number)
            for row in registry.evaluations(run_id)
            if row.state not in ENDED
        ]


def abandoned(workspace: Workspace, key: JobKey) -> bool:
    """Whether its supervisor died, on this machine."""
    try:
        return JobState.read(job_of(workspace.runs, key)).is_orphaned()
    except FileNotFoundError:
        return False


def _wait_for_goodbye(workspace: Workspace, key: JobKey) -> None:
    """Until nobody owns the job, bounded: a supervisor that hangs is not our trouble."""
    lock = job_of(workspace.runs, key).lock
    deadline = time.monotonic() + _GOODBYE_S
    while _is_owned(lock) and time.monotonic() < deadline:
        time.sleep(_POLL_S / 5)


def _is_owned(lock: Path) -> bool:
    """Whether a supervisor holds the job's lock. Shared, so that those who wait don't meet."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # never started, or removed
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
