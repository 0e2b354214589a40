"""Holds a process as a debugger does."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_ATTACH, _DETACH = 16, 17  # PTRACE_*


@contextmanager
def debugged(pid: int) -> Iterator[None]:
    """Traced and stopped; without the right to trace, the test is skipped."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(_ATTACH, pid, None, None) != 0:
        pytest.skip(f"needs the right to trace a process: {os.strerror(ctypes.get_errno())}")
    os.waitpid(pid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(_DETACH, pid, None, None)
