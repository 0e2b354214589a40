"""Which GPUs a command or a workspace may use at all. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.gpu.probe import Device
from orchestra.settings import WorkspaceSettings
from orchestra.wire.errors import NotFoundError, UsageError


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


def limited(pool: Sequence[Device], settings: WorkspaceSettings) -> list[Device]:
    """The devices of the pool that the workspace may use.

    A device that this machine lacks is passed over: one workspace may be used on several.
    """
    if not settings.gpu_ids:
        return list(pool)
    named = [_named(pool, word) for word in settings.gpu_ids]
    return [device for device in pool if device in named]


def over_limit(count: int, held: int, limit: int | None) -> str | None:
    """Why a workspace whose runs hold `held` devices gets no `count` more; None if it may."""
    if limit is None or held + count <= limit:
        return None
    return (
        f"this workspace's runs may hold {limit} at once (gpus.limit, orchestra.toml); "
        f"they hold {held}, {count} more {'is' if count == 1 else 'are'} asked for"
    )


def _named(devices: Sequence[Device], word: str) -> Device | None:
    for device in devices:
        if word == str(device.index) or word == device.uuid:
            return device
    near = [device for device in devices if len(word) > 4 and device.uuid.startswith(word)]
    return near[0] if len(near) == 1 else None
