"""supervisor.log: one line per thing that happened, with the local time in milliseconds.

The supervisor's stderr is that file.
"""

from __future__ import annotations

import contextlib
import sys
import time


def log(text: str) -> None:
    """Append a line; a full disk loses the line, not the supervisor."""
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03d}"
    with contextlib.suppress(OSError):
        print(f"{stamp} {text}", file=sys.stderr, flush=True)
