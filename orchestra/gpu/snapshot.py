"""All GPUs of the machine at one moment: NVML's reading, the leases, the workspace's share.

Only looks. What is free here may be taken a moment later: `Leases` alone grants.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestra.gpu import lease_file
from orchestra.gpu.lease_file import Holder
from orchestra.gpu.pool import limited
from orchestra.gpu.probe import NO_DRIVER, Device, Link, Probe, Prober
from orchestra.gpu.processes import using
from orchestra.gpu.status import Status, status_of
from orchestra.settings import WorkspaceSettings, workspace_settings


@dataclass(frozen=True)
class Gpu:
    """One device with its state."""

    device: Device
    status: Status
    holder: Holder | None
    """Of its lease, if there is one."""
    inside: bool
    """Whether the workspace may use it at all, free or not."""


@dataclass(frozen=True)
class Snapshot:
    """`error`: why NVML tells nothing; there are no GPUs then."""

    gpus: tuple[Gpu, ...]
    links: tuple[Link, ...]
    error: str | None
    held_here: int
    """Devices that runs of this workspace hold."""
    limit: int | None
    """At most so many may they hold at once."""

    @property
    def is_broken(self) -> bool:
        """Whether something is wrong with the driver; to have none is in order."""
        return self.error not in (None, NO_DRIVER)


def read(workspace: Path | None, prober: Prober) -> Snapshot:
    """Look. `workspace`: its root; without one there is neither pool nor limit.

    An exported CUDA_VISIBLE_DEVICES counts for the job that exports it: `pool.visible` applies it.

    Raises:
        UsageError: the workspace's settings are wrong.
    """
    return look(workspace, prober.read())


def look(workspace: Path | None, reading: Probe) -> Snapshot:
    """What leases, procfs and the workspace's settings say to that reading (UsageError)."""
    settings = workspace_settings(workspace) if workspace else WorkspaceSettings()
    holders = lease_file.holders(lease_file.machine_folder())
    pool = [device for device in limited(reading.devices, settings) if device.has_uuid]
    leftovers = using({device.uuid for device in reading.devices})
    gpus = []
    for device in reading.devices:
        holder, inside = holders.get(device.uuid), device in pool
        leftover = leftovers.get(device.uuid)
        status = status_of(device, holder, leftover=leftover, inside=inside)
        gpus.append(Gpu(device, status, holder, inside))
    here = os.fspath(workspace.resolve()) if workspace else None
    return Snapshot(
        gpus=tuple(gpus),
        links=reading.links,
        error=reading.error,
        held_here=sum(holder.workspace == here for holder in holders.values()),
        limit=settings.gpu_limit,
    )
