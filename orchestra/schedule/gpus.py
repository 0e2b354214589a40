"""What `orchestra gpus` shows: every GPU of the machine, again and again if wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestra.gpu import snapshot
from orchestra.gpu.probe import GpuProcess, Prober
from orchestra.gpu.snapshot import Gpu, Snapshot
from orchestra.gpu.status import run_of
from orchestra.wire.errors import NotFoundError
from orchestra.workspace import find_workspace


def readings(start: Path | None, runs_dir: Path | None) -> Iterator[Snapshot]:
    """The GPUs now, at each step anew, all asked of one process that NVML may hang.

    Outside of a workspace there is neither pool nor limit.
    """
    try:
        root = find_workspace(start, runs_dir).root
    except NotFoundError:
        if start is not None:  # asked for by name
            raise
        root = None
    with Prober() as prober:
        while True:
            yield snapshot.read(root, prober)


def gpu_row(gpu: Gpu, now: Snapshot) -> dict[str, Any]:
    """A JSON object."""
    device, holder = gpu.device, gpu.holder
    return {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "state": gpu.status.state.value,
        "reason": gpu.status.reason,
        "run": holder.run_id if holder else None,
        "user": holder.user if holder else None,
        "workspace": holder.workspace if holder else None,
        "since": holder.since if holder else None,
        "memory_total_bytes": device.memory_total,
        "memory_used_bytes": device.memory_used,
        "utilisation_percent": device.utilisation,
        "memory_utilisation_percent": device.memory_utilisation,
        "power_w": device.power_w,
        "power_limit_w": device.power_limit_w,
        "temperature_c": device.temperature_c,
        "mig": device.mig,
        "processes": None
        if device.processes is None
        else [_process_row(process, gpu) for process in device.processes],
        "links": {str(index): kind for index, kind in links_of(gpu, now).items()},
    }


def links_of(gpu: Gpu, now: Snapshot) -> dict[int, str]:
    """What lies between this device and each other (by index), where the driver tells."""
    index = {other.device.uuid: other.device.index for other in now.gpus}
    mine = gpu.device.uuid
    pairs = ((link.first, link.second, link.kind) for link in now.links)
    found = {
        index[second if first == mine else first]: kind
        for first, second, kind in pairs
        if mine in (first, second)
    }
    return dict(sorted(found.items()))


def _process_row(process: GpuProcess, gpu: Gpu) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "name": process.owner.name,
        "user": process.owner.user,
        "run": run_of(process, gpu.holder),
        "memory_bytes": process.memory,
        "graphics": process.graphics,
    }
