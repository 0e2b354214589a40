"""The child process that talks to NVML: one JSON line on stdout for each line on stdin.

NVML can hang in the driver; whoever waits for this process kills it at its own deadline.
Run only by `orchestra.gpu.probe`. Each field of each device is read on its own: one that the
driver refuses becomes null and spoils nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pynvml


def _guarded(read: Callable[[], Any]) -> Any:
    """What `read` gives, or None where this driver or this device does not tell."""
    try:
        value = read()
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _memory(handle: Any) -> Any:
    # Version 2 leaves out what the driver reserves for itself (up to 1 GB on an idle device).
    return _guarded(
        lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    ) or _guarded(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))


def _processes(handle: Any) -> list[dict[str, Any]] | None:
    found = _guarded(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    if found is None:
        return None
    return [{"pid": int(process.pid), "memory": process.usedGpuMemory} for process in found]


def _device(index: int) -> dict[str, Any]:
    handle = _guarded(lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return {"index": index, "uuid": None}
    memory = _memory(handle)
    rates = _guarded(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    return {
        "index": index,
        "uuid": _guarded(lambda: pynvml.nvmlDeviceGetUUID(handle)),
        "name": _guarded(lambda: pynvml.nvmlDeviceGetName(handle)),
        "memory_total": int(memory.total) if memory else None,
        "memory_used": int(memory.used) if memory else None,
        "utilisation": int(rates.gpu) if rates else None,
        "processes": _processes(handle),
    }


def _answer() -> dict[str, Any]:
    try:
        pynvml.nvmlInit()
        try:
            count = pynvml.nvmlDeviceGetCount()
            return {"devices": [_device(index) for index in range(count)], "error": None}
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return {"devices": [], "error": str(error)}


def main() -> None:
    """Answer until stdin ends."""
    for _ in sys.stdin:
        print(json.dumps(_answer()), flush=True)


if __name__ == "__main__":
    main()
