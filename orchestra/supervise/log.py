"""supervisor.log: one line per thing that happened. The supervisor's stderr is that file."""

from __future__ import annotations

import sys
import time


def log(text: str) -> None:
    """Append a line with the local time."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{stamp} {text}", file=sys.stderr, flush=True)
