"""The one state of a GPU and the sentence that says why. Pure; no other wording exists elsewhere.

A lease comes first: it explains a busy device better than pids do. Processes that only draw make
no device taken, memory above the floor does. What the driver does not tell counts as taken,
unless the user named the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestra.gpu.lease_file import Holder
from orchestra.gpu.probe import Device, GpuProcess
from orchestra.gpu.processes import Leftover

#: Memory in use above this means that somebody computes there, whoever it is.
MEMORY_FLOOR = 512 * 2**20


class GpuState(StrEnum):
    """What a device is, for whoever wants to start on it."""

    FREE = "free"
    LEASED = "leased"
    FOREIGN = "foreign"
    UNKNOWN = "unknown"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Status:
    """A state and its reason, a phrase that stands after `GPU 0: `."""

    state: GpuState
    reason: str

    def may_be_taken(self, *, named: bool) -> bool:
        """Whether a run may start here; `named`: the user chose this very device."""
        return self.state == GpuState.FREE or (named and self.state == GpuState.UNKNOWN)


def status_of(
    device: Device,
    holder: Holder | None,
    *,
    leftover: Leftover | None = None,
    inside: bool = True,
) -> Status:
    """The state of a device.

    `holder`: of its lease; `leftover`: a live process of a run that was given it;
    `inside`: whether the workspace's pool has it.
    """
    if holder is not None:
        return Status(GpuState.LEASED, f"{holder}{_beside(device, holder)}")
    foreign = _foreign(device, leftover)
    if foreign is not None:
        return Status(GpuState.FOREIGN, foreign)
    if not device.has_uuid:
        return Status(GpuState.OUTSIDE, "the driver hides its UUID: it can't be leased")
    if not inside:
        return Status(GpuState.OUTSIDE, "outside this workspace's pool (gpus.ids, orchestra.toml)")
    unknown = _unknown(device)
    if unknown is not None:
        return Status(GpuState.UNKNOWN, f"unknown: {unknown}")
    return Status(GpuState.FREE, "free")


def run_of(process: GpuProcess, holder: Holder | None) -> str | None:
    """The run a process belongs to: by its own tag, or as the only one that its user leased to."""
    if process.owner.run_id is not None or holder is None:
        return process.owner.run_id
    return holder.run_id if process.owner.user == holder.user else None


def describe(process: GpuProcess) -> str:
    """`pid 12 python of ann`, with what is known."""
    name = f" {process.owner.name}" if process.owner.name else ""
    user = f" of {process.owner.user}" if process.owner.user else ""
    return f"pid {process.pid}{name}{user}"


def _beside(device: Device, holder: Holder) -> str:
    """Who computes on a leased device besides its holder, as far as that is known."""
    others = [
        process
        for process in device.computing
        if process.owner.user is not None and run_of(process, holder) != holder.run_id
    ]
    return f"; also used by {', '.join(map(describe, others))}" if others else ""


def _foreign(device: Device, leftover: Leftover | None) -> str | None:
    runs = sorted({process.owner.run_id for process in device.computing if process.owner.run_id})
    computing = ", ".join(map(describe, device.computing))
    if runs:
        return f"process of run {', '.join(runs)}, which holds no lease ({computing})"
    if device.computing:
        return f"foreign process ({computing})"
    if leftover is not None:
        return f"process of run {leftover.run_id}, which holds no lease (pid {leftover.pid})"
    if device.memory_used is not None and device.memory_used > MEMORY_FLOOR:
        drawing = ", ".join(map(describe, device.processes or ())) or "pid not told"
        return f"foreign process ({drawing}; {device.memory_used / 2**30:.1f} GiB in use)"
    return None


def _unknown(device: Device) -> str | None:
    if device.mig:
        return "it is cut into MIG instances; name it with --gpu-ids to use it"
    missing = [
        what
        for what, value in (("processes", device.processes), ("memory", device.memory_used))
        if value is None
    ]
    if missing:
        told = " and ".join(missing)
        return f"the driver does not tell its {told}; name it with --gpu-ids to use it"
    return None
