"""What waits, and for what: the snapshot that `plan` judges, and its verdict for people.

Reads only: asking changes nothing. `dispatch` acts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestra.registry.rows import Demand, JobKey, QueuedRow, gpus_of
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.listing import any_runs
from orchestra.schedule.plan import Gpu, Plan, Snapshot, Waiting, plan
from orchestra.schedule.revive import read_state
from orchestra.supervise.jobs import job_of
from orchestra.supervise.launch import read_settings
from orchestra.supervise.lock import is_held
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.states import LIVE, RunState
from orchestra.workspace import Workspace

if TYPE_CHECKING:  # what runs on the CPU is dispatched without them
    from orchestra.gpu.probe import Device, Prober
    from orchestra.gpu.snapshot import Gpu as SeenGpu
    from orchestra.gpu.snapshot import Snapshot as GpuSnapshot

_POOL = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Place:
    """A queued job and why it has not started."""

    key: JobKey
    name: str
    demand: Demand
    queued_at: float
    position: int | None
    """In the line for GPUs, from 1; None where it is not in the line."""
    reason: str

    def __str__(self) -> str:
        where = "" if self.position is None else f" at position {self.position}"
        return f"queued{where}: {self.reason}"


@dataclass(frozen=True)
class Outlook:
    """A snapshot, and the devices that it is about by UUID."""

    snapshot: Snapshot
    devices: Mapping[str, Device]


def places(workspace: Workspace) -> list[Place]:
    """Every queued job, in the order in which they will start as far as that can be told."""
    if not any_runs(workspace):
        return []
    with open_registry(workspace.runs) as registry:
        rows, _, verdict = _judge(workspace, registry)
    found = {row.key: row for row in rows}
    ready = [(start.key, None, "can start now") for start in verdict.starts]
    line = sorted(verdict.waits, key=lambda wait: wait.position or len(found) + 1)
    return [
        Place(key, found[key].name, found[key].demand, found[key].queued_at, position, reason)
        for key, position, reason in [*ready, *line]
    ]


def position_of(workspace: Workspace, key: JobKey) -> Place | None:
    """The job's place; None if it is not queued, or has a supervisor already."""
    return next((place for place in places(workspace) if place.key == key), None)


def device_reasons(workspace: Workspace) -> str:
    """Each GPU of the machine and why a job can't have it now, in one line."""
    with open_registry(workspace.runs) as registry:
        _, outlook, _ = _judge(workspace, registry)
    return "; ".join(
        f"GPU {gpu.index}: {gpu.taken or gpu.doubt or 'free'}" for gpu in outlook.snapshot.gpus
    )


def _judge(workspace: Workspace, registry: Registry) -> tuple[list[QueuedRow], Outlook, Plan]:
    rows = waiting_jobs(workspace.runs, registry)
    with asked_about(rows) as prober:
        outlook = look(workspace, registry, rows, prober)
    return rows, outlook, plan(outlook.snapshot)


def waiting_jobs(runs: RunsFolder, registry: Registry) -> list[QueuedRow]:
    """Queued jobs without a supervisor, first queued first; how many GPUs they want is known.

    A supervisor that was just started has not told the registry yet.
    """
    rows = [_with_gpus(runs, row) for row in registry.queued()]
    at_work = {row.parent: row.id for row in registry.list_runs(states=LIVE)}
    waiting = []
    for row in rows:
        if _has_supervisor(runs, row.key):
            at_work[row.parent] = row.key.run_id
        else:
            waiting.append(row)
    return [
        replace(row, sibling=at_work.get(row.parent, "")) if row.parent else row for row in waiting
    ]


@contextmanager
def asked_about(rows: Sequence[QueuedRow], mine: Prober | None = None) -> Iterator[Prober | None]:
    """Who can be asked about GPUs, if one of the jobs wants any; `mine` if there is that one."""
    if not any(row.demand.gpus for row in rows):
        yield None
        return
    if mine is not None:
        yield mine
        return
    from orchestra.gpu.probe import Prober

    with Prober() as prober:
        yield prober


def look(
    workspace: Workspace,
    registry: Registry,
    rows: Sequence[QueuedRow],
    prober: Prober | None,
) -> Outlook:
    """The snapshot for these jobs."""
    if prober is None:
        return Outlook(Snapshot(time.time(), [_waiting(row) for row in rows]), {})
    from orchestra.gpu import snapshot

    try:
        now = snapshot.read(workspace.root, prober)
    except UsageError as error:  # the settings are wrong: what runs on the CPU may start
        waiting = [_waiting(row) for row in rows]
        return Outlook(Snapshot(time.time(), waiting, problem=str(error)), {})
    pools = _Pools(now)
    leased = {gpu.device.uuid for gpu in now.gpus if gpu.holder is not None}
    kept = _gpus_of_live_jobs(workspace.runs, registry)
    promised = {uuid: key for uuid, key in kept.items() if uuid not in leased}
    return Outlook(
        Snapshot(
            now=time.time(),
            waiting=[pools.fill(workspace.runs, row) for row in rows],
            gpus=[_gpu(gpu, promised) for gpu in now.gpus],
            links=now.links,
            problem=now.error or "",
            limit=now.limit,
            held=now.held_here + len(promised),
        ),
        {gpu.device.uuid: gpu.device for gpu in now.gpus},
    )


def _gpus_of_live_jobs(runs: RunsFolder, registry: Registry) -> dict[str, JobKey]:
    """GPUs (by UUID) of jobs at work here: who has no lease follows a dead supervisor, or is about
    to be given one that does, and leases them again."""
    found: dict[str, JobKey] = {}
    for key in registry.jobs_in(LIVE):
        state = read_state(runs, key)
        if state is None or state.supervisor is None or not state.supervisor.is_here():
            continue
        if state.state == RunState.STARTING and not state.is_orphaned():
            continue  # it was handed its leases: those of an attempt of before are not its any more
        for attempt in registry.attempts(key)[-1:]:
            found |= dict.fromkeys(attempt.devices, key)
    return found


class _Pools:
    """Which GPUs a job may have, as the user, the submitter's shell and the workspace say."""

    def __init__(self, now: GpuSnapshot) -> None:
        self._devices = [gpu.device for gpu in now.gpus]
        self._inside = [gpu.device for gpu in now.gpus if gpu.inside]
        self._known: dict[tuple[str | None, tuple[str, ...]], tuple[tuple[str, ...], str]] = {}

    def fill(self, runs: RunsFolder, row: QueuedRow) -> Waiting:
        """The job with its pool."""
        if not row.demand.gpus:
            return _waiting(row)
        exported, ids = _exported(job_of(runs, row.key)), row.demand.gpu_ids
        if (exported, ids) not in self._known:
            self._known[exported, ids] = self._resolve(exported, ids)
        pool, problem = self._known[exported, ids]
        return replace(_waiting(row), pool=pool, named=bool(ids), problem=problem)

    def _resolve(self, exported: str | None, ids: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """UUIDs, and why they can't be told."""
        from orchestra.gpu.pool import visible, wanted

        shown = visible(self._devices, exported)
        pool = [device for device in shown if device in self._inside]
        try:
            chosen = wanted(pool, ids) if ids else pool
        except (NotFoundError, UsageError) as error:
            return (), str(error)
        return tuple(device.uuid for device in chosen), ""


def _waiting(row: QueuedRow) -> Waiting:
    return Waiting(
        row.key,
        row.queued_at,
        row.demand.gpus or 0,
        priority=row.demand.priority,
        after=row.demand.after,
        after_state=row.after_state,
        after_ended_at=row.after_ended_at,
        parent=row.parent,
        sibling=row.sibling,
    )


def _gpu(gpu: SeenGpu, promised: Mapping[str, JobKey]) -> Gpu:
    from orchestra.gpu.lease_file import lock_path, machine_folder, obstacle

    device, status = gpu.device, gpu.status
    obstructed = obstacle(lock_path(machine_folder(), device.uuid))
    taken = obstructed or ("" if status.may_be_taken(named=True) else status.reason)
    if device.uuid in promised:
        taken = f"kept for {promised[device.uuid]}, which goes on"
    doubt = "" if taken or status.may_be_taken(named=False) else status.reason
    leased = not obstructed and (gpu.holder is not None or device.uuid in promised)
    return Gpu(device.uuid, device.index, taken, doubt, leased)


def _with_gpus(runs: RunsFolder, row: QueuedRow) -> QueuedRow:
    """Jobs that an older orchestra queued have no GPUs on record. A broken config wants none: its
    supervisor tells what is wrong with it."""
    if row.demand.gpus is not None:
        return row
    try:
        settings = read_settings(job_of(runs, row.key).config)
    except OrchestraError:
        return replace(row, demand=replace(row.demand, gpus=0))
    gpus = gpus_of(settings.device, settings.nproc)
    return replace(row, demand=replace(row.demand, gpus=gpus, gpu_ids=settings.gpu_ids))


def _has_supervisor(runs: RunsFolder, key: JobKey) -> bool:
    try:
        return is_held(job_of(runs, key).lock)
    except OSError:
        return False  # another user's: whoever tries to start it says so


def _exported(job: Job) -> str | None:
    """The pool that the submitter's shell exported, as its supervisor will have it."""
    try:
        variables: dict[str, str] = read_json(job.environment)["variables"]
    except (FileNotFoundError, OrchestraError, KeyError):
        return os.environ.get(_POOL)
    return variables.get(_POOL)
