"""The child process that talks to NVML: one JSON line on stdout for each line on stdin.

NVML can hang in the driver; whoever waits for this process kills it at its own deadline.
Run only by `orchestra.gpu.probe`. Each field of each device is read on its own: one that the
driver refuses becomes null and spoils nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pynvml

#: The names of `nvidia-smi topo -m`: what a transfer between two devices has to cross.
_PATHS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "pix",
    pynvml.NVML_TOPOLOGY_SINGLE: "pix",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "pxb",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "phb",
    pynvml.NVML_TOPOLOGY_NODE: "node",
    pynvml.NVML_TOPOLOGY_SYSTEM: "sys",
}
_REFUSALS = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError)


def _guarded(read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` gives, or None where this driver or this device does not tell."""
    try:
        value = read(*arguments)
    except _REFUSALS:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _memory(handle: Any) -> Any:
    # Version 2 leaves out what the driver reserves for itself (up to 1 GB on an idle device).
    return _guarded(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or _guarded(
        pynvml.nvmlDeviceGetMemoryInfo, handle
    )


def _processes(read: Callable[[Any], Any], handle: Any) -> list[dict[str, Any]] | None:
    found = _guarded(read, handle)
    if found is None:
        return None
    return [{"pid": int(process.pid), "memory": process.usedGpuMemory} for process in found]


def _watts(read: Callable[[Any], Any], handle: Any) -> float | None:
    milliwatts = _guarded(read, handle)
    return None if milliwatts is None else milliwatts / 1000


def _device(index: int, handle: Any) -> dict[str, Any]:
    if handle is None:
        return {"index": index, "uuid": None}
    memory = _memory(handle)
    rates = _guarded(pynvml.nvmlDeviceGetUtilizationRates, handle)
    mig = _guarded(pynvml.nvmlDeviceGetMigMode, handle)
    return {
        "index": index,
        "uuid": _guarded(pynvml.nvmlDeviceGetUUID, handle),
        "name": _guarded(pynvml.nvmlDeviceGetName, handle),
        "memory_total": int(memory.total) if memory else None,
        "memory_used": int(memory.used) if memory else None,
        "utilisation": int(rates.gpu) if rates else None,
        "memory_utilisation": int(rates.memory) if rates else None,
        "power_w": _watts(pynvml.nvmlDeviceGetPowerUsage, handle),
        "power_limit_w": _watts(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
        "temperature_c": _guarded(
            pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
        ),
        "mig": None if mig is None else mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        "processes": _processes(pynvml.nvmlDeviceGetComputeRunningProcesses, handle),
        "graphics": _processes(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle),
    }


def _link(one: Any, other: Any) -> str | None:
    """NVLink (directly or through NVSwitch), or else the path over PCI."""
    nvlink = _guarded(pynvml.nvmlDeviceGetP2PStatus, one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if nvlink == pynvml.NVML_P2P_STATUS_OK:
        return "nvlink"
    return _PATHS.get(_guarded(pynvml.nvmlDeviceGetTopologyCommonAncestor, one, other))


def _reading() -> dict[str, Any]:
    handles = [
        _guarded(pynvml.nvmlDeviceGetHandleByIndex, index)
        for index in range(pynvml.nvmlDeviceGetCount())
    ]
    known = [(index, handle) for index, handle in enumerate(handles) if handle is not None]
    return {
        "devices": [_device(index, handle) for index, handle in enumerate(handles)],
        "links": [
            [first, second, _link(one, other)]
            for (first, one), (second, other) in combinations(known, 2)
        ],
        "error": None,
    }


def _answer() -> dict[str, Any]:
    try:
        pynvml.nvmlInit()
        try:
            return _reading()
        finally:
            pynvml.nvmlShutdown()
    except _REFUSALS as error:
        return {"devices": [], "links": [], "error": str(error)}


def main() -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what a driver's library prints is no answer
        for _ in sys.stdin:
            print(json.dumps(_answer()), file=answers, flush=True)


if __name__ == "__main__":
    main()
