"""The signal at which a rank writes the Python stacks of all its threads, also while C code holds
the GIL.

A real-time signal: torch, NCCL and schedulers have uses of their own for SIGUSR1 and SIGUSR2.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path

STACKS_SIGNAL = signal.SIGRTMIN + 8


@contextlib.contextmanager
def on_request(path: Path) -> Iterator[None]:
    """Write the stacks to `path` whenever the signal comes; a fatal signal's go to stderr.

    An empty file is removed at the end, if this process lives to see it; the signal may come even
    later, so the handler stays.

    Raises:
        OSError: the file can't be made.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=False)
    faulthandler.enable()
    try:
        yield
    finally:
        if os.fstat(fd).st_size == 0:
            path.unlink(missing_ok=True)
