"""What procfs and a rank's log say about a silent rank. Reads only; hang.py judges."""

from __future__ import annotations

import os
from pathlib import Path

from orchestra.supervise.hang import Signs

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def signs_of(pid: int, log: Path) -> Signs:
    """CPU time, state and log of a process; one that is gone has no state."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return Signs(0.0, _size(log), "")
    # The command name may hold spaces and parentheses; fields are counted after the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    cpu_ticks = int(fields[11]) + int(fields[12])  # utime, stime of proc(5)
    return Signs(cpu_ticks / _TICKS_PER_S, _size(log), fields[0].decode())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
