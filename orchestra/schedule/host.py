"""The machine beside its GPUs: how busy its CPUs are, how much memory is left."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_STAT, _MEMORY = Path("/proc/stat"), Path("/proc/meminfo")
_IDLE = (3, 4)  # fields of the first line of /proc/stat: idle, waiting for the disk
_GUEST = 8  # from here on: counted before already


@dataclass(frozen=True)
class Host:
    """One reading. A field is None where the kernel does not tell."""

    cpus: int
    cpu_percent: float | None
    """Of all CPUs, busy since the reading before; None in the first one."""
    load: tuple[float, float, float] | None
    """Waiting or running tasks, over 1, 5 and 15 minutes."""
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    """What programs may still have, caches given back."""

    @property
    def memory_used_bytes(self) -> int | None:
        if self.memory_total_bytes is None or self.memory_available_bytes is None:
            return None
        return self.memory_total_bytes - self.memory_available_bytes

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "memory_used_bytes": self.memory_used_bytes}


class HostSampler:
    """Reads again and again: the load of CPUs is a difference."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None

    def read(self) -> Host:
        """Now."""
        now = _cpu_ticks()
        before, self._before = self._before, now
        memory = _memory()
        return Host(
            cpus=os.cpu_count() or 1,
            cpu_percent=_percent(before, now),
            load=_load(),
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
        )


def _percent(before: tuple[int, int] | None, now: tuple[int, int] | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    return 100.0 * (now[0] - before[0]) / (now[1] - before[1])


def _cpu_ticks() -> tuple[int, int] | None:
    """Busy ones and all, of all CPUs together."""
    try:
        fields = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    own = fields[:_GUEST]
    return sum(own) - sum(own[place] for place in _IDLE), sum(own)


def _memory() -> dict[str, int]:
    """Bytes by name."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, _, value in pairs if value.strip()}


def _load() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except OSError:
        return None
