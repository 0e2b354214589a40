"""What `orchestra gpus` and the monitor show: every GPU of the machine, again and again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.gpu import snapshot
from orchestra.gpu.probe import GpuProcess, Prober
from orchestra.gpu.snapshot import Gpu, Snapshot
from orchestra.gpu.status import run_of
from orchestra.schedule.host import Host, HostSampler
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


@dataclass(frozen=True)
class Machine:
    """The GPUs and what is beside them."""

    gpus: Snapshot | None
    """None: NVML has not answered yet."""
    host: Host


class MachineWatch:
    """Looks again and again and never waits for NVML: its child process does.

    It may be closed by another thread than looks.
    """

    def __init__(self, workspace: Path) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._workspace = workspace
        self._prober = Prober()
        self._sampler = HostSampler()
        self._newest: Snapshot | None = None

    def look(self) -> Machine:
        """The newest that is known (UsageError: the workspace's settings are wrong)."""
        with self._lock:
            reading = None if self._closed else self._prober.poll()
            if reading is not None:
                self._newest = snapshot.look(self._workspace, reading)
            return Machine(self._newest, self._sampler.read())

    def close(self) -> None:
        """End the child; nothing new is known from now on."""
        with self._lock:
            self._closed = True
            self._prober.close()


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
