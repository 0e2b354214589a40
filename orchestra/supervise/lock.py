"""Exclusive locks on files. The kernel frees them on any death or reboot; no pid is trusted."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

_POLL_S = 0.02


class FileLock:
    """A held lock. It lives as long as any process holds the descriptor, so never leak it."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor that is locked already, as `dispatch` hands it down."""
        os.set_inheritable(fd, False)
        self.fd = fd

    @classmethod
    def try_acquire(cls, path: Path) -> FileLock | None:
        """The lock, or None while another process holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    @classmethod
    def acquire(cls, path: Path, timeout_s: float) -> FileLock | None:
        """The lock, or None if another process still holds it after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (lock := cls.try_acquire(path)) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)
        return lock

    @classmethod
    def acquire_if_free(cls, path: Path) -> FileLock | None:
        """The lock, or None if somebody holds it; those who only look (`is_held`) don't count."""
        while (lock := cls.try_acquire(path)) is None:
            if is_held(path):
                return None
            time.sleep(_POLL_S)
        return lock

    def close(self) -> None:
        """Let go."""
        os.close(self.fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now. Shared, so that those who look don't meet.

    Raises:
        OSError: the file can't be opened; one that is not there is held by nobody.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
