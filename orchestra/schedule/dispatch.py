"""The only place that starts supervisors: for queued jobs, and for jobs whose supervisor died.

Called by the CLI, by an ending supervisor and by whoever waits for a run. One flock serialises it.
"""

from __future__ import annotations

import os

from orchestra.provenance.environment import is_recorded
from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.revive import candidates, needs_supervisor
from orchestra.schedule.spawn import own_environment, spawn
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import FileLock
from orchestra.supervise.log import log
from orchestra.supervise.reconcile import give_up
from orchestra.wire.errors import OrchestraError, WaitTimeoutError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job
from orchestra.workspace import Workspace

_LOCK_WAIT_S = 30.0
_OWN = {"PYTHONPATH"}  # the supervisor is this orchestra; attempts get their snapshot's


def dispatch(workspace: Workspace) -> list[JobKey]:
    """Give every waiting job a supervisor; the jobs that got one.

    Raises:
        WaitTimeoutError: another dispatcher kept its lock for half a minute.
    """
    lock = FileLock.acquire(workspace.runs.dispatch_lock, _LOCK_WAIT_S)
    if lock is None:
        raise WaitTimeoutError(
            f"another orchestra process has kept {workspace.runs.dispatch_lock} for "
            f"{_LOCK_WAIT_S:g} s; try again"
        )
    with lock, open_registry(workspace.runs) as registry:
        return [key for key in candidates(registry) if _dispatch_one(workspace, key, registry)]


def _dispatch_one(workspace: Workspace, key: JobKey, registry: Registry) -> bool:
    """Start a supervisor if the job needs one. Whatever is wrong with one job concerns it alone.

    The job's lock is won here and handed down, so that no moment is left in which another
    dispatcher could see the job without an owner.
    """
    job = job_of(workspace.runs, key)
    try:
        lock = FileLock.try_acquire(job.lock)
        if lock is None:  # it has a supervisor
            return False
        with lock:
            if not needs_supervisor(job, key, registry):
                return False
            _start_supervisor(workspace, job, lock)
    except FileNotFoundError:
        give_up(key, registry, f"its folder {job.folder} was removed")
        return False
    except OSError as error:  # another user's, or a machine without a process to spare
        log(f"{key} can't be started now: {error}")
        return False
    return True


def _start_supervisor(workspace: Workspace, job: Job, lock: FileLock) -> None:
    runs, root = os.fspath(workspace.runs.path), os.fspath(workspace.root)
    spawn(
        "orchestra.supervise",
        [os.fspath(job.folder), "--kind", job.kind, "--runs", runs, "--workspace", root],
        log=job.supervisor_log,
        folder=workspace.root,
        environment=_environment(job),
        lock_fd=lock.fd,
    )


def _environment(job: Job) -> dict[str, str]:
    """The dispatcher's, but what the job's record tells is as it was where the job was asked for.

    Whoever happens to dispatch, the job has the submitter's GPUs, caches and libraries.
    """
    mine = own_environment()
    try:
        recorded: dict[str, str] = read_json(job.environment)["variables"]
    except (FileNotFoundError, OrchestraError, KeyError):
        return mine  # if the job can't do without the record, its supervisor says so
    theirs = {name: value for name, value in recorded.items() if name not in _OWN}
    return theirs | {
        name: value for name, value in mine.items() if name in _OWN or not is_recorded(name)
    }
