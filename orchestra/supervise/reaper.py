"""Starts children and owns all wait statuses of the supervisor; nothing else may wait.

The supervisor is a subreaper: orphans of the whole tree come here and never stay zombies.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_DEFAULT_IN_CHILDREN = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGCHLD,
)


@dataclass(frozen=True)
class ExitStatus:
    """How a child ended. `signal` is 0 unless a signal killed it; `code` is then 0."""

    code: int
    signal: int


class Reaper:
    """All children of this process."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            errno = ctypes.get_errno()
            raise OSError(errno, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(errno)}")
        self._started: set[int] = set()
        self._statuses: dict[int, ExitStatus] = {}

    def start(
        self, argv: list[str], environment: Mapping[str, str], log: Path, *, stdin: int
    ) -> int:
        """Start a child, its output appended to `log`; its pid. Main thread only (death chain).

        `stdin`: a descriptor that becomes its standard input.
        """
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=[],
            setsigdef=_DEFAULT_IN_CHILDREN,
        )
        self._started.add(pid)
        self._statuses.pop(pid, None)  # of an earlier one with this pid
        return pid

    def reap(self) -> None:
        """Collect whoever has ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in self._started:
                self._started.remove(ended.si_pid)
                by_signal = ended.si_code != os.CLD_EXITED
                self._statuses[ended.si_pid] = ExitStatus(
                    code=0 if by_signal else ended.si_status,
                    signal=ended.si_status if by_signal else 0,
                )

    def status(self, pid: int) -> ExitStatus | None:
        """How the child that `start` returned has ended; None while it runs."""
        return self._statuses.get(pid)
