"""Numbers, durations and sizes as people read them, on the command line as in the monitor. Pure."""

from __future__ import annotations

import math
import time


def number(value: float | None, digits: int = 4) -> str:
    """Whole numbers in full, others with so many significant digits; a dash for None.

    An exponent only where it is shorter than zeros: below 1e-4 and from 1e7.
    """
    if value is None:
        return "-"
    if math.isfinite(value) and value == int(value):
        return str(int(value))
    if 1e-4 <= abs(value) < 1e7:
        digits = max(digits, len(str(int(abs(value)))))
    return f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """`2h05m`, `3m20s`, `12s` or a dash."""
    if seconds is None or seconds != seconds or seconds == float("inf"):
        return "-"
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def ago(then_s: float | None) -> str:
    """How long ago a Unix time was."""
    return "-" if then_s is None else f"{duration(max(0.0, time.time() - then_s))} ago"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
