"""What the supervisor sleeps on: signals, the deaths of watched processes, and a timeout."""

from __future__ import annotations

import os
import selectors
import signal
from types import FrameType


class Events:
    """One selector. Make it in the main thread: it installs signal handlers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._pidfds: dict[int, int] = {}  # descriptor -> pid
        self.termination_requested = False
        self._wakeup, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._request_termination)
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def watch(self, pid: int) -> bool:
        """Report the death of `pid` from now on; False if it is gone already."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        self._pidfds[descriptor] = pid
        self._selector.register(descriptor, selectors.EVENT_READ)
        return True

    def listen(self, descriptor: int) -> None:
        """Wake up from now on when there is something to read."""
        self._selector.register(descriptor, selectors.EVENT_READ)

    def ignore(self, descriptor: int) -> None:
        """The inverse of `listen`."""
        self._selector.unregister(descriptor)

    def forget_all(self) -> None:
        """Watch no process any more."""
        for descriptor in list(self._pidfds):
            self._drop(descriptor)

    def wait(self, timeout_s: float) -> list[int]:
        """Sleep until something happens; the watched pids that have died, each told once."""
        died = []
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            if key.fd == self._wakeup:
                os.read(self._wakeup, 4096)
            elif key.fd in self._pidfds:
                died.append(self._drop(key.fd))
        return died

    def _drop(self, descriptor: int) -> int:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        return self._pidfds.pop(descriptor)

    def _request_termination(self, number: int, frame: FrameType | None) -> None:
        self.termination_requested = True


def _ignore(number: int, frame: FrameType | None) -> None:
    """SIGCHLD only has to wake the selector."""
