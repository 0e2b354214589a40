"""Asking a job to stop, from any process. Its supervisor does the rest, if it has one."""

from __future__ import annotations

import time

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.supervise.jobs import job_of
from orchestra.supervise.launch import read_settings
from orchestra.supervise.lock import FileLock
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.settle import settle
from orchestra.supervise.state import JobRecord
from orchestra.wire.errors import ConflictError, NotFoundError
from orchestra.wire.folders import Job
from orchestra.wire.job import JobState, StopFlag
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace


def stop_job(
    workspace: Workspace, key: JobKey, *, now: bool = False, grace_s: float | None = None
) -> None:
    """Ask the job to save and end within `grace_s` (default: launch.grace_s), or kill it `now`.

    Returns at once while a supervisor is at work (its state turns to stopping, then stopped); a
    job without one, queued or orphaned, is stopped when this returns.

    Raises:
        ConflictError: the job has ended already, or lives on another machine.
        NotFoundError: its folder was removed.
    """
    job = job_of(workspace.runs, key)
    try:
        _stop(workspace, key, job, now=now, grace_s=grace_s)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{error.filename} of {key} is gone: `orchestra rm {key.run_id}` forgets the rest"
        ) from error


def _stop(workspace: Workspace, key: JobKey, job: Job, *, now: bool, grace_s: float | None) -> None:
    lock = FileLock.acquire_if_free(job.lock)
    if lock is None:
        _refuse_if_ended(key, JobState.read(job))
        if grace_s is None:
            grace_s = read_settings(job.config).grace_s
        StopFlag(time.time(), 0.0 if now else grace_s).write(job)
        return
    with lock:
        _stop_without_supervisor(workspace, key, job)


def _stop_without_supervisor(workspace: Workspace, key: JobKey, job: Job) -> None:
    state = JobState.read(job)
    _refuse_if_ended(key, state)
    if state.supervisor is not None and not state.supervisor.is_here():
        raise ConflictError(f"{key} lives on host {state.supervisor.host}: stop it there")
    with open_registry(workspace.runs) as registry:
        record = JobRecord(job, key, registry, Mirror(), supervisor=None)
        settle(record)
        queued = state.state == RunState.QUEUED
        record.move(
            RunState.STOPPED,
            "stopped before it started" if queued else "stopped; its supervisor had died before",
        )


def _refuse_if_ended(key: JobKey, state: JobState) -> None:
    if state.state in ENDED:
        raise ConflictError(f"{key} has ended already: it is {state.state.value}")
