"""The death chain: a child dies by SIGKILL as soon as its parent does.

The parent puts its own pid into the environment before it starts the child; the child arms
PR_SET_PDEATHSIG and then compares: a parent that died in between is noticed too.
The signal follows the parent's *thread*: call `announce` and start children from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import MutableMapping

PARENT_PID = "ORCHESTRA_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def announce(environment: MutableMapping[str, str]) -> None:
    """Name the calling process as the parent that children started with `environment` must have."""
    environment[PARENT_PID] = str(os.getpid())


def die_with_parent() -> None:
    """Arm the death signal; exit at once if the announced parent is already gone.

    Without `ORCHESTRA_PARENT_PID` (a user runs plain torchrun by hand) nothing is armed.

    Raises:
        OSError: the kernel refused.
    """
    expected = os.environ.get(PARENT_PID)
    if expected is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl(PR_SET_PDEATHSIG): {os.strerror(errno)}")
    if os.getppid() != int(expected):
        os._exit(1)
