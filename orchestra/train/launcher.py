"""The warm launcher: has imported torch once per job, and forks agents and ranks from there.

`python -m orchestra.train.launcher JOB` is a child of the supervisor, which talks to it over the
socket that is its standard input; ranks are asked for over a socket of its own, by what torchrun
starts in their place (train/forked.py). One JSON object per line:

    supervisor -> {"arguments": [...], "tag": "...", "log": "..."}      fork an agent
    forked     -> {"arguments": [...], "environment": {...}}, with its stdout and stderr
    either     <- {"pid": 7}                                            it runs
    either     <- {"pid": 7, "code": 1, "signal": 0}                    it has ended

This process imports and forks: no tensor, no CUDA call, no code of a task, no thread. Whoever asked
for a child and goes away takes it along; all of them die with the launcher, and it with the
supervisor (wire/lifeline.py).
"""

from __future__ import annotations

import os

from orchestra.wire import lifeline

if __name__ == "__main__":
    # Before torch is imported: that takes seconds in which the supervisor may die.
    lifeline.die_with_parent()
    lifeline.announce(os.environ)

import json
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.train import warm
from orchestra.wire.heartbeat import make_private, pages_folder
from orchestra.wire.job import LAUNCHER, TAG

_REQUEST_BYTES = 2**20


@dataclass(frozen=True)
class _Child:
    pid: int
    asker: socket.socket


class Launcher:
    """Serves one supervisor."""

    def __init__(self, control: socket.socket, listener: socket.socket) -> None:
        self._control = control
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._children: dict[int, _Child] = {}  # by pidfd

    def serve(self) -> None:
        """Until the supervisor closes its end."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._tell_end(key.fd)
                elif key.fileobj is self._listener:
                    self._take_in()
                elif not self._answer(key.fileobj):
                    return

    def _take_in(self) -> None:
        """Somebody asks for a rank; only this user can reach the socket."""
        asker, _ = self._listener.accept()
        self._selector.register(asker, selectors.EVENT_READ)

    def _answer(self, asker: Any) -> bool:
        """Fork what is asked for; False if it was the supervisor who went away."""
        try:
            data, fds, _, _ = socket.recv_fds(asker, _REQUEST_BYTES, 2)
            while data and not data.endswith(b"\n"):
                data += asker.recv(_REQUEST_BYTES)
        except ConnectionResetError:
            data, fds = b"", []
        if data:
            self._start(asker, json.loads(data), fds)
            for fd in fds:
                os.close(fd)
        elif asker is self._control:
            return False
        else:
            self._let_go(asker)
        return True

    def _start(self, asker: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        if not warm.may_fork():
            pid = warm.spawn_agent(request) if asker is self._control else 0
        else:
            pid = os.fork()
            if pid == 0:
                self._close()
                asker.close()
                if fds:
                    sys.exit(warm.be_rank(request, fds))
                os._exit(warm.be_agent(request))  # tearing torch down would take its time
        self._tell(asker, {"pid": pid})
        if pid:
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = _Child(pid, asker)
            self._selector.register(pidfd, selectors.EVENT_READ)

    def _tell_end(self, pidfd: int) -> None:
        child = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        end = {"pid": child.pid, "code": max(0, code), "signal": max(0, -code)}
        self._tell(child.asker, end)

    def _let_go(self, asker: socket.socket) -> None:
        """Who asked has ended: torchrun has stopped its rank, or has died."""
        for pidfd, child in self._children.items():
            if child.asker is asker:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._selector.unregister(asker)
        asker.close()

    def _tell(self, asker: socket.socket, answer: dict[str, int]) -> None:
        try:
            asker.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:  # it is gone, which its end of the socket tells
            return

    def _close(self) -> None:
        """In a child: nothing of the launcher is its own."""
        for pidfd, child in self._children.items():
            os.close(pidfd)
            child.asker.close()
        self._listener.close()
        self._control.close()
        self._selector.close()


def main(argv: list[str]) -> int:
    """Serve the supervisor that started this process for the job folder in `argv`."""
    warm.name_process("orch-launcher")
    control = _take_over_stdin()
    warm.preload(Path(argv[0]))
    Launcher(control, _listen(pages_folder(os.environ[TAG]))).serve()
    return 0


def _listen(folder: Path) -> socket.socket:
    """A socket in a folder that only this user can enter."""
    make_private(folder)
    path = folder / "launcher"
    path.unlink(missing_ok=True)  # of one that was killed
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    os.environ[LAUNCHER] = str(path)
    return listener


def _take_over_stdin() -> socket.socket:
    """The socket, which no descendant inherits; they read nothing from standard input."""
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return control


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
