"""What procfs says of a process: parent, memory, CPU time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """In MB of 2**20 bytes."""

    resident_mb: float
    """Anonymous and file pages."""
    share_mb: float
    """The same, each page divided by the number of processes that map it (PSS)."""


def memory(pid: int) -> Memory:
    """Of a process of this user (OSError: it is gone)."""
    status, rollup = _kilobytes(pid, "status"), _kilobytes(pid, "smaps_rollup")
    return Memory((status["RssAnon"] + status["RssFile"]) / 1024, rollup["Pss"] / 1024)


def cpu_s(pid: int) -> float:
    """Time on a CPU so far, in and out of the kernel, of all threads (OSError: it is gone)."""
    # schedstat counts nanoseconds; utime and stime of stat would count ticks of 10 ms.
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def parent(pid: int) -> int:
    """The parent's pid; 0 if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def arguments(pid: int) -> list[str]:
    """Its command line; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def pids() -> list[int]:
    """All processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _kilobytes(pid: int, entry: str) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/{entry}").read_text().splitlines()
    split = (line.replace(":", " ").split() for line in lines)
    return {words[0]: int(words[1]) for words in split if words[-1:] == ["kB"]}
