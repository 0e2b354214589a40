"""What waits, and for what: the snapshot that `plan` judges, and its verdict for people.

Reads only: asking changes nothing. `dispatch` acts.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestra.gpu.leases import Leases
from orchestra.gpu.pool import taken_because, visible, wanted
from orchestra.gpu.probe import Device, Prober
from orchestra.registry.rows import Demand, JobKey, QueuedRow, gpus_of
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.listing import any_runs
from orchestra.schedule.plan import Gpu, Plan, Snapshot, Waiting, plan
from orchestra.settings import WorkspaceSettings, workspace_settings
from orchestra.supervise.jobs import job_of
from orchestra.supervise.launch import read_settings
from orchestra.supervise.lock import is_held
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.identity import machine_id
from orchestra.workspace import Workspace

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
    with Prober() as prober:
        outlook = look(workspace, registry, rows, prober)
    return rows, outlook, plan(outlook.snapshot)


def waiting_jobs(runs: RunsFolder, registry: Registry) -> list[QueuedRow]:
    """Queued jobs without a supervisor, first queued first; how many GPUs they want is known.

    A supervisor that was just started has not told the registry yet.
    """
    rows = [_with_gpus(runs, row) for row in registry.queued()]
    return [row for row in rows if not (row.demand.gpus and _has_supervisor(runs, row.key))]


def look(
    workspace: Workspace,
    registry: Registry,
    rows: Sequence[QueuedRow],
    prober: Prober,
    kept: Mapping[str, JobKey] | None = None,
) -> Outlook:
    """The snapshot for these jobs. NVML is only asked if one of them wants GPUs.

    `kept`: GPUs (by UUID) of jobs that are about to lease them again.
    """
    if not any(row.demand.gpus for row in rows):
        return Outlook(Snapshot(time.time(), [_waiting(row) for row in rows]), {})
    reading = prober.read()
    holders = Leases().holders()
    taken = {uuid: f"kept for {key}, which goes on" for uuid, key in (kept or {}).items()}
    taken |= {uuid: str(holder) for uuid, holder in holders.items()}
    settings, problem = _settings(workspace)
    pools = _Pools(reading.devices, settings)
    root = os.fspath(workspace.root.resolve())
    leased = Counter(holder.run_id for holder in holders.values() if holder.workspace == root)
    snapshot = Snapshot(
        now=time.time(),
        waiting=[pools.fill(workspace.runs, row) for row in rows],
        gpus=[_gpu(device, taken.get(device.uuid, "")) for device in reading.devices],
        problem=problem or reading.error or "",
        limit=settings.gpu_limit,
        # A job at work may not have leased yet, and a job that leased may not be on record yet.
        held=sum((registry.live_gpus(machine_id()) | leased).values()),
    )
    return Outlook(snapshot, {device.uuid: device for device in reading.devices})


class _Pools:
    """Which GPUs a job may have, as the user, the submitter's shell and the workspace say."""

    def __init__(self, devices: Sequence[Device], settings: WorkspaceSettings) -> None:
        self._devices = devices
        self._settings = settings
        self._known: dict[tuple[str | None, tuple[str, ...]], tuple[tuple[str, ...], str]] = {}

    def fill(self, runs: RunsFolder, row: QueuedRow) -> Waiting:
        """The job with its pool."""
        if not row.demand.gpus:
            return _waiting(row)
        exported, ids = _exported(job_of(runs, row.key)), row.demand.gpu_ids
        if (exported, ids) not in self._known:
            self._known[exported, ids] = self._resolve(exported, ids)
        pool, problem = self._known[exported, ids]
        everything = len(pool) == len(self._devices) and not ids
        return replace(
            _waiting(row),
            pool=None if everything else pool,
            named=bool(ids),
            problem=problem,
        )

    def _resolve(self, exported: str | None, ids: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """UUIDs, and why they can't be told."""
        pool = visible(self._devices, exported)
        try:
            if self._settings.gpu_ids:
                allowed = wanted(self._devices, self._settings.gpu_ids)
                pool = [device for device in pool if device in allowed]
            if ids:
                pool = wanted(pool, ids)
        except (NotFoundError, UsageError) as error:
            return (), str(error)
        return tuple(device.uuid for device in pool), ""


def _waiting(row: QueuedRow) -> Waiting:
    return Waiting(
        row.key,
        row.queued_at,
        row.demand.gpus or 0,
        priority=row.demand.priority,
        after=row.demand.after,
        after_state=row.after_state,
    )


def _gpu(device: Device, taken: str) -> Gpu:
    taken = taken or taken_because(device, named=True) or ""
    doubt = "" if taken else taken_because(device, named=False) or ""
    return Gpu(device.uuid, device.index, taken, doubt)


def _settings(workspace: Workspace) -> tuple[WorkspaceSettings, str]:
    """The workspace's, or none and what is wrong with the file."""
    try:
        return workspace_settings(workspace.root), ""
    except UsageError as error:
        return WorkspaceSettings(), str(error)


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
