"""Looking at a job until it has ended. Whoever watches also sees to it that there is a conductor,
which revives jobs that lost their supervisor and starts queued ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from orchestra.registry.rows import EvaluationRow, JobKey, RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.conductor import ensure_conductor
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import is_held
from orchestra.wire.errors import NotFoundError, OrchestraError, WaitTimeoutError
from orchestra.wire.files import is_disk_full
from orchestra.wire.job import JobState
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace

_POLL_S = 0.1
_CARE_EVERY_S = 1.0
#: So many conductors in a row that are gone when we look again, and we say so.
_MOST_CONDUCTORS = 5
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
        OrchestraError: it needs a conductor or a supervisor, and none can work.
    """
    next_care = time.monotonic()
    care = _Care(workspace, key)
    with open_registry(workspace.runs) as registry:
        while True:
            view = look(registry, key)
            if view.ended:
                break
            yield view
            now = time.monotonic()
            if now >= next_care:
                care.take(view.state)
                next_care = now + _CARE_EVERY_S
            time.sleep(poll_s)
        _wait_for_goodbye(workspace, key)
        yield view


class _Care:
    """Sees to it that somebody cares for a job which waits or has lost its supervisor."""

    def __init__(self, workspace: Workspace, key: JobKey) -> None:
        self._workspace = workspace
        self._key = key
        self._conductors = 0  # started in a row

    def take(self, state: RunState) -> None:
        """Start a conductor if the job needs one.

        Raises:
            OrchestraError: the disk is full, or conductors die as fast as they are started.
        """
        orphaned = state in LIVE and abandoned(self._workspace, self._key)
        if orphaned and is_disk_full(job_of(self._workspace.runs, self._key).folder):
            raise OrchestraError(
                f"the supervisor of {self._key} died: the disk of {self._workspace.runs.path} is "
                "full; make room, then `orchestra up`"
            )
        needed = orphaned or state == RunState.QUEUED
        started = needed and ensure_conductor(self._workspace)
        self._conductors = self._conductors + 1 if started else 0
        if self._conductors > _MOST_CONDUCTORS:
            raise OrchestraError(
                f"{self._key} needs a conductor, and {_MOST_CONDUCTORS} of them died at once: mend "
                f"what {self._workspace.runs.conductor_log} names, then `orchestra up`"
            )


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
    while is_held(lock) and time.monotonic() < deadline:
        time.sleep(_POLL_S / 5)
