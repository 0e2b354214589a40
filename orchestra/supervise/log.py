"""supervisor.log: one line per thing that happened. The supervisor's stderr is that file."""

from __future__ import annotations

import contextlib
import sys
import time


def log(text: str) -> None:
    """Append a line with the local time; a full disk loses the line, not the supervisor."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):
        print(f"{stamp} {text}", file=sys.stderr, flush=True)
