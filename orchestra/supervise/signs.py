"""What procfs and the log say of a rank that is silent, for the judge (see hang.py)."""

from __future__ import annotations

import os
from pathlib import Path

from orchestra.supervise.hang import Signs
from orchestra.wire.heartbeat import Beat

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def read_signs(beat: Beat, log: Path) -> Signs:
    """Of the process that wrote the page; its state is empty if it is gone."""
    try:
        log_bytes = log.stat().st_size
    except OSError:
        log_bytes = 0
    try:
        stat = Path(f"/proc/{beat.pid}/stat").read_bytes()
    except OSError:
        return Signs(0.0, log_bytes, "")
    # The command name may hold spaces and parentheses; fields are counted after the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if int(fields[19]) != beat.start_ticks:
        return Signs(0.0, log_bytes, "")
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Signs(cpu_s, log_bytes, fields[0].decode())
