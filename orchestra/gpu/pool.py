"""Which GPUs a command may use at all, and which of them are free. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.gpu.probe import Device
from orchestra.wire.errors import NotFoundError, UsageError

#: Memory in use above this means that somebody computes there, whoever it is.
MEMORY_FLOOR = 512 * 2**20


def visible(devices: Sequence[Device], exported: str | None) -> list[Device]:
    """The devices an exported CUDA_VISIBLE_DEVICES leaves, in its order.

    `exported` is None where the variable is not set. Like CUDA, an entry that names no device
    ends the list. Indices are NVML's (PCI order).
    """
    if exported is None:
        return list(devices)
    pool: list[Device] = []
    for word in exported.split(","):
        device = _named(devices, word.strip())
        if device is None:
            break
        pool.append(device)
    return pool


def wanted(pool: Sequence[Device], ids: Sequence[str]) -> list[Device]:
    """The devices named by index or by UUID (its beginning is enough), in that order.

    Raises:
        NotFoundError: an id names no device of the pool.
        UsageError: one device is named twice.
    """
    chosen: list[Device] = []
    for word in ids:
        device = _named(pool, word)
        if device is None:
            there = ", ".join(str(item.index) for item in pool) or "none"
            raise NotFoundError(f"there is no GPU {word!r} here; usable ones: {there}")
        if device in chosen:
            raise UsageError(f"GPU {word!r} is named twice")
        chosen.append(device)
    return chosen


def taken_because(device: Device, *, named: bool) -> str | None:
    """Why nobody should start on `device`, or None if it is free.

    What the driver does not tell counts as taken, unless the user named the device.
    """
    if device.processes:
        pids = ", ".join(str(process.pid) for process in device.processes)
        return f"used by a process outside orchestra (pid {pids})"
    if device.memory_used is not None and device.memory_used > MEMORY_FLOOR:
        return f"{device.memory_used / 2**30:.1f} GiB in use by an unknown process"
    if named:
        return None
    if device.processes is None or device.memory_used is None:
        return "state unknown: the driver does not tell; name it with --gpu-ids to use it"
    return None


def _named(devices: Sequence[Device], word: str) -> Device | None:
    for device in devices:
        if word == str(device.index) or word == device.uuid:
            return device
    near = [device for device in devices if len(word) > 4 and device.uuid.startswith(word)]
    return near[0] if len(near) == 1 else None
