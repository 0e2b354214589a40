"""One process at a time gets an item; the others wait for it and then find it there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestra.fetch.cache import unwritable


@contextmanager
def only_one(path: Path, what: str, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock at `path`; yields whether another process had it when we came.

    The kernel frees it on any death. Ctrl-C ends the wait.

    Raises:
        OrchestraError: the lock file can't be written, or its disk has no locks.
    """
    try:
        # For all whom the umask lets in: users may share a cache.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield _take(fd, path, what, say)
    finally:
        os.close(fd)


def _take(fd: int, path: Path, what: str, say: Callable[[str], None]) -> bool:
    """Lock it; whether another process had it when we came."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is fetching {what}: waiting for it")
        fcntl.flock(fd, fcntl.LOCK_EX)
        return True
    except OSError as error:
        raise unwritable(path, error) from error
    return False
