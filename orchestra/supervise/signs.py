"""What procfs and the log say of a rank that is silent, for the judge (see hang.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestra.supervise.hang import Signs
from orchestra.wire.heartbeat import Beat
from orchestra.wire.work import moved_bytes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    state: str
    cpu_s: float
    start_ticks: int


def read_signs(beat: Beat, log: Path) -> Signs:
    """Of the process that wrote the page and its children: loader workers read for it.

    Its state is empty if it is gone.
    """
    try:
        log_bytes = log.stat().st_size
    except OSError:
        log_bytes = 0
    rank = _process(beat.pid)
    if rank is None or rank.start_ticks != beat.start_ticks:
        return Signs(0.0, log_bytes, 0, "")
    children = list(_children(rank.pid))
    cpu_s = sum(each.cpu_s for each in (rank, *children))
    return Signs(cpu_s, log_bytes, sum(moved_bytes(each.pid) for each in children), rank.state)


def _children(parent: int) -> Iterator[_Process]:
    """/proc/PID/task/*/children would tell faster; not all kernels have it."""
    for folder in Path("/proc").iterdir():
        process = _process(int(folder.name)) if folder.name.isdigit() else None
        if process is not None and process.parent == parent:
            yield process


def _process(pid: int) -> _Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; fields are counted after the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return _Process(pid, int(fields[1]), fields[0].decode(), cpu_s, int(fields[19]))
