"""Waiting, bounded, until the memory of GPUs has drained after the processes on them have gone.

The driver frees it 0.1 to 2 s after a process's death, later if the process sits in the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from orchestra.gpu.probe import Device, Prober
from orchestra.gpu.status import MEMORY_FLOOR, describe

DEADLINE_S = 50.0
_PAUSE_S = 0.2
_TRIES = 2  # with a driver that does not answer


def wait_until_drained(
    uuids: Collection[str],
    prober: Prober,
    wait: Callable[[float], object],
    *,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Empty once all these devices are drained; at the deadline a sentence about what is not.

    `wait` is called with a number of seconds between two readings. A device whose memory the
    driver never tells counts as drained.
    """
    started, errors = clock(), 0
    while True:
        left_s = deadline_s - (clock() - started)
        reading = prober.read(min(max(left_s, _PAUSE_S), 5.0))
        held = [_describe(each) for each in reading.devices if _is_held(each, uuids)]
        errors += reading.error is not None
        if errors == _TRIES:
            return f"whether the GPUs have drained is not known ({reading.error})"
        if not held and reading.error is None:
            return ""
        if left_s <= 0:
            return f"{'; '.join(held)} after {deadline_s:g} s"
        wait(min(_PAUSE_S, left_s))


def _is_held(device: Device, uuids: Collection[str]) -> bool:
    return device.uuid in uuids and (device.memory_used or 0) > MEMORY_FLOOR


def _describe(device: Device) -> str:
    by = ", ".join(map(describe, device.processes or ())) or "a process that NVML does not name"
    used = (device.memory_used or 0) / 2**30
    return f"GPU {device.index} still has {used:.1f} GiB in use by {by}"
