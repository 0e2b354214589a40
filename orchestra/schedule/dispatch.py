"""The only place that starts supervisors: for jobs whose supervisor died, then for queued ones.

Called by the CLI, by an ending supervisor and by whoever waits for a run. One flock serialises it.
What starts is `plan`'s to say; its GPUs are leased here and handed down, so that between the plan
and the supervisor nobody else gets them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestra.provenance.environment import is_recorded
from orchestra.registry.rows import Demand, JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.plan import Start, plan
from orchestra.schedule.queue import asked_about, look, waiting_jobs
from orchestra.schedule.revive import needs_supervisor
from orchestra.schedule.spawn import own_environment, spawn
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import FileLock
from orchestra.supervise.log import log
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.reconcile import give_up, reconcile
from orchestra.supervise.state import JobRecord
from orchestra.wire.errors import OrchestraError, WaitTimeoutError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import LIVE, RunState
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.gpu.probe import Device, Prober

_LOCK_WAIT_S = 30.0
_OWN = {"PYTHONPATH"}  # the supervisor is this orchestra; attempts get their snapshot's


def dispatch(workspace: Workspace, prober: Prober | None = None) -> list[JobKey]:
    """Give a supervisor to every job that lost its own and to those whose turn it is; which ones.

    `prober`: of a caller that dispatches again and again; closed by it alone.

    Raises:
        WaitTimeoutError: another dispatcher kept its lock for half a minute.
    """
    if not workspace.runs.path.is_dir():  # removed, or never made
        return []
    lock = FileLock.acquire(workspace.runs.dispatch_lock, _LOCK_WAIT_S)
    if lock is None:
        raise WaitTimeoutError(
            f"another orchestra process has kept {workspace.runs.dispatch_lock} for "
            f"{_LOCK_WAIT_S:g} s; try again"
        )
    with lock, open_registry(workspace.runs) as registry:
        revived = [key for key in registry.jobs_in(LIVE) if _revive(workspace, key, registry)]
        return revived + _start_queued(workspace, registry, prober)


def _alone(
    workspace: Workspace, key: JobKey, registry: Registry, act: Callable[[Job, FileLock], bool]
) -> bool:
    """Do something with a job that nobody owns, else False. What is wrong with it stops no other.

    The job's lock is won here and handed down to its supervisor, so that no moment is left in
    which another dispatcher could see the job without an owner.
    """
    job = job_of(workspace.runs, key)
    try:
        lock = FileLock.acquire_if_free(job.lock)
        if lock is None:  # it has a supervisor
            return False
        with lock:
            return act(job, lock)
    # Another user's, GPUs that somebody else was faster to take, a machine without a process to
    # spare: it is tried again.
    except (OSError, OrchestraError) as error:
        if isinstance(error, FileNotFoundError) and not job.folder.is_dir():
            give_up(key, registry, f"its folder {job.folder} was removed")
            return False
        log(f"{key} can't be started now: {error}")
    return False


def _revive(workspace: Workspace, key: JobKey, registry: Registry) -> bool:
    """Give a job at work a supervisor if its own has died; that one leases the GPUs itself."""

    def act(job: Job, lock: FileLock) -> bool:
        state = reconcile(job, key, registry)
        if state is None:
            return False
        if state.state == RunState.QUEUED:
            # Its supervisor gave it back to the queue and died before it told the registry.
            registry.transition(key, LIVE, RunState.QUEUED, reason=state.reason)
        if not state.is_orphaned():
            return False
        _start_supervisor(workspace, job, lock, {})
        return True

    return _alone(workspace, key, registry, act)


def _start_queued(workspace: Workspace, registry: Registry, mine: Prober | None) -> list[JobKey]:
    """Start what `plan` says."""
    rows = waiting_jobs(workspace.runs, registry)
    demands = {row.key: row.demand for row in rows}
    with asked_about(rows, mine) as prober:
        outlook = look(workspace, registry, rows, prober)

        def start(planned: Start) -> bool:
            devices = [outlook.devices[uuid] for uuid in planned.devices]
            return _start(workspace, planned, demands[planned.key], devices, prober, registry)

        return [planned.key for planned in plan(outlook.snapshot).starts if start(planned)]


def _start(
    workspace: Workspace,
    planned: Start,
    demand: Demand,
    devices: Sequence[Device],
    prober: Prober | None,
    registry: Registry,
) -> bool:
    """Start a queued job on its GPUs; it stays queued if they can't be leased."""
    key = planned.key

    def act(job: Job, lock: FileLock) -> bool:
        if not needs_supervisor(job, key, registry) or not _is_whole(workspace, job, key, registry):
            return False
        if prober is None or not devices:  # on the CPU: however NVML is, it is not asked again
            _forget_after(job, key, demand, registry)
            _start_supervisor(workspace, job, lock, {})
            return True
        from orchestra.gpu.leases import Leases

        with Leases() as leases:
            leases.take(devices, prober, key.run_id, workspace.root, named=planned.named)
            _forget_after(job, key, demand, registry)
            _start_supervisor(workspace, job, lock, leases.hand_over())
        return True

    return _alone(workspace, key, registry, act)


def _is_whole(workspace: Workspace, job: Job, key: JobKey, registry: Registry) -> bool:
    """Whether the job can start; it gets the weights that its predecessor has made by now."""
    try:
        entry = QueueEntry.read(job)
        if entry.init_from:
            from orchestra.schedule.deferred import complete  # loads pydantic

            complete(workspace, job, entry, registry)
    except OrchestraError as error:
        JobRecord(job, key, registry, Mirror(), supervisor=None).fail(str(error))
        return False
    return True


def _forget_after(job: Job, key: JobKey, demand: Demand, registry: Registry) -> None:
    """What it waited for is there: should it be queued again, it waits for that run no more."""
    if demand.after:
        replace(QueueEntry.read(job), after="").write(job)
        registry.change_demand(key, replace(demand, after=""))


def _start_supervisor(
    workspace: Workspace, job: Job, lock: FileLock, leases: Mapping[str, int]
) -> None:
    """`leases`: UUID -> descriptor of the GPUs that it gets."""
    runs, root = os.fspath(workspace.runs.path), os.fspath(workspace.root)
    handed = [word for uuid, fd in leases.items() for word in ("--lease", f"{uuid}={fd}")]
    spawn(
        "orchestra.supervise",
        [os.fspath(job.folder), "--kind", job.kind, "--runs", runs, "--workspace", root, *handed],
        log=job.supervisor_log,
        folder=workspace.root,
        environment=_environment(job),
        lock_fd=lock.fd,
        fds=tuple(leases.values()),
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
