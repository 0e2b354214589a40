"""Which jobs have no supervisor though they need one, and when a new one is no use any more.

Only jobs of this machine are ever revived: here a pid can be checked; a run that lives on another
machine may be in perfect health.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import FileLock
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.reconcile import reconcile
from orchestra.supervise.settle import settle
from orchestra.supervise.state import JobRecord
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.job import JobState
from orchestra.wire.states import LIVE, RunState

#: So many supervisors in a row that change nothing, and there will be no more.
MOST_REVIVALS = 5


def needs_supervisor(job: Job, key: JobKey, registry: Registry) -> bool:
    """Whether it is queued, or its supervisor has died, before a reboot too. Its folder decides.

    Call it with the job's lock held.
    """
    state = reconcile(job, key, registry)
    return state is not None and (state.state == RunState.QUEUED or state.is_orphaned())


@dataclass(frozen=True)
class Work:
    """The unfinished jobs that concern this machine."""

    waiting: tuple[JobKey, ...]
    """Queued, or with a folder that tells another story than the registry: for `dispatch`."""
    owned: tuple[JobKey, ...]
    """At work here, or orphaned here."""

    def __bool__(self) -> bool:
        return bool(self.waiting or self.owned)


def find_work(runs: RunsFolder, registry: Registry) -> Work:
    """What is there to do now. Jobs that live on another machine are none of our business."""
    waiting = registry.jobs_in({RunState.QUEUED})
    owned = []
    for key in registry.jobs_in(LIVE):
        state = read_state(runs, key)
        if state is None or state.supervisor is None:
            waiting.append(key)
        elif state.supervisor.is_here():
            owned.append(key)
    return Work(tuple(waiting), tuple(owned))


def read_state(runs: RunsFolder, key: JobKey) -> JobState | None:
    """What the job's folder says; None where it is gone or broken."""
    try:
        return JobState.read(job_of(runs, key))
    except (FileNotFoundError, OrchestraError):
        return None


class Revivals:
    """Counts the new supervisors of each job: what killed one may kill them all."""

    def __init__(self) -> None:
        self._counts: dict[JobKey, tuple[float, int]] = {}  # mark, supervisors since it

    def note(self, key: JobKey, mark: float) -> None:
        """The job was given one more supervisor.

        `mark` is what a supervisor of use changes: of an orphan its newest attempt, of a queued
        job the time of its state.
        """
        self._counts[key] = (mark, self._count(key, mark) + 1)

    def exhausted(self, key: JobKey, mark: float) -> bool:
        """Whether as many as there may be died and left `mark` as it was."""
        return self._count(key, mark) >= MOST_REVIVALS

    def _count(self, key: JobKey, mark: float) -> int:
        seen, count = self._counts.get(key, (mark, 0))
        return count if seen == mark else 0


def end_hopeless(runs: RunsFolder, key: JobKey, registry: Registry) -> None:
    """End a job whose supervisors die as fast as they are started; its processes go too."""
    job = job_of(runs, key)
    lock = FileLock.try_acquire(job.lock)
    if lock is None:
        return
    with lock:
        if needs_supervisor(job, key, registry):
            record = JobRecord(job, key, registry, Mirror(), supervisor=None)
            settle(record)
            if record.state.state == RunState.QUEUED:
                told = f"{MOST_REVIVALS} supervisors died before they could take it over"
            else:
                told = (
                    f"its supervisor died, and so did {MOST_REVIVALS} new ones before they could "
                    "start an attempt"
                )
            remedy = f"mend what {job.supervisor_log} names, then {how_to_go_on(key)}"
            record.fail(f"{told}: {remedy}")


def how_to_go_on(key: JobKey) -> str:
    """The command that gives a job another life."""
    if key.evaluation is None:
        return f"`orchestra resume {key.run_id}`"
    return f"`orchestra eval {key.run_id}` again"
