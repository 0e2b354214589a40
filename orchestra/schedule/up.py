"""Takes up all unfinished work of a workspace on this machine, after a reboot for instance.

Jobs of other machines and jobs that a user stopped are left alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.conductor import ensure_conductor
from orchestra.schedule.dispatch import dispatch
from orchestra.schedule.revive import read_state
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import FileLock
from orchestra.wire.folders import Job
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace

_LOCK_WAIT_S = 10.0  # the supervisor of a job that was preempted just now goes within a moment


@dataclass(frozen=True)
class Deed:
    """What became of one job, as a sentence without its subject."""

    key: JobKey
    sentence: str


def up(workspace: Workspace, *, dry_run: bool) -> list[Deed]:
    """Revive, queue again, dispatch, and leave a conductor; with `dry_run` only tell.

    Raises:
        OrchestraError: as `dispatch` and `ensure_conductor`.
    """
    if not workspace.runs.path.is_dir():
        return []
    with open_registry(workspace.runs) as registry:
        unfinished = [
            *registry.jobs_in(LIVE),
            *registry.jobs_in({RunState.QUEUED}),
            *registry.jobs_in({RunState.PREEMPTED}),
        ]
        deeds = {key: _look(workspace, key) for key in unfinished}
        if not dry_run:
            for key in deeds:
                _requeue(workspace, key, registry)
    if not dry_run:
        started = dispatch(workspace)
        ensure_conductor(workspace)
        for key in started:
            deeds[key] = f"{deeds[key]}; starts now" if key in deeds else "queued; starts now"
    return [Deed(key, sentence) for key, sentence in deeds.items() if sentence]


def _look(workspace: Workspace, key: JobKey) -> str:
    """How the job stands; empty where there is nothing to tell."""
    state = read_state(workspace.runs, key)
    if state is None:
        return f"{job_of(workspace.runs, key).state} can't be read: it fails"
    if state.state == RunState.PREEMPTED:
        owner = _last_home(job_of(workspace.runs, key))
        if owner is not None and not owner.is_here():
            return f"was preempted on host {owner.host}: left alone"
        return "was preempted; queued again"
    if state.state in ENDED:
        return ""  # the registry has missed its end, and is told
    if state.state == RunState.QUEUED:
        return "queued"
    if state.supervisor is not None and not state.supervisor.is_here():
        return f"lives on host {state.supervisor.host}: left alone"
    if state.is_orphaned():
        return "its supervisor died; it gets a new one"
    return f"{state.state.value}: nothing to do"


def _requeue(workspace: Workspace, key: JobKey, registry: Registry) -> None:
    """Preempted -> queued; anything else stays as it is."""
    job = job_of(workspace.runs, key)
    if not _is_preempted_here(workspace, key):
        return
    lock = FileLock.acquire(job.lock, _LOCK_WAIT_S)
    if lock is None:
        return
    with lock:
        if not _is_preempted_here(workspace, key):  # another `up` was faster
            return
        job.stop.unlink(missing_ok=True)
        state = replace(
            JobState.read(job), state=RunState.QUEUED, reason="", updated_at=time.time()
        )
        state.write(job)
        registry.transition(key, frozenset(RunState), RunState.QUEUED)


def _is_preempted_here(workspace: Workspace, key: JobKey) -> bool:
    state = read_state(workspace.runs, key)
    if state is None or state.state != RunState.PREEMPTED:
        return False
    owner = _last_home(job_of(workspace.runs, key))
    return owner is None or owner.is_here()


def _last_home(job: Job) -> ProcessIdentity | None:
    """A process of its newest attempt: an ended job names no supervisor any more."""
    attempts = [folder for folder in job.attempts() if folder.attempt.is_file()]
    return Attempt.read(attempts[-1]).agent if attempts else None
