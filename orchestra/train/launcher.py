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
import signal

from orchestra.wire import lifeline

if __name__ == "__main__":
    # Before torch is imported: that takes seconds in which the supervisor may die.
    lifeline.die_with_parent()
    lifeline.announce(os.environ)
    # Schedulers send it to every process of a job: it is meant for the supervisor, and ranks that
    # died of it could save nothing. Whatever is started from here ignores it too.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

import json
import selectors
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from orchestra.train import warm
from orchestra.wire.heartbeat import make_private, pages_folder
from orchestra.wire.job import LAUNCHER, TAG

_REQUEST_BYTES = 2**20


@dataclass
class _Asker:
    """The supervisor, or a rank's stand-in, and what has arrived of its request."""

    socket: socket.socket
    data: bytes = b""
    fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Child:
    pid: int
    asker: _Asker


class Launcher:
    """Serves one supervisor."""

    def __init__(self, control: socket.socket, listener: socket.socket) -> None:
        self._control = _Asker(control)
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._control)
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
                elif not self._hear(key.data):
                    return

    def _take_in(self) -> None:
        """Somebody asks for a rank; only this user can reach the socket."""
        accepted, _ = self._listener.accept()
        self._selector.register(accepted, selectors.EVENT_READ, _Asker(accepted))

    def _hear(self, asker: _Asker) -> bool:
        """Take in what there is of a request; False if it was the supervisor who went away."""
        try:
            data, fds, _, _ = socket.recv_fds(asker.socket, _REQUEST_BYTES, 2)
        except ConnectionResetError:
            data, fds = b"", []
        asker.data += data
        asker.fds += tuple(fds)
        if not data:
            self._let_go(asker)
            return asker is not self._control
        if asker.data.endswith(b"\n"):
            request, asker.data = json.loads(asker.data), b""
            self._start(asker, request)
        return True

    def _start(self, asker: _Asker, request: dict[str, Any]) -> None:
        """Fork what is asked for. A rank that can't be forked is told so: it starts by itself."""
        pid = _fork() if warm.may_fork() else None
        if pid == 0:
            self._live_as(asker, request)
        if pid is None:
            pid = warm.spawn_agent(request) if asker is self._control else 0
        self._drop_fds(asker)
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

    def _live_as(self, asker: _Asker, request: dict[str, Any]) -> NoReturn:
        """In a child: nothing of the launcher is its own."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            else:
                os.close(key.fd)
        self._selector.close()
        if asker is not self._control:
            sys.exit(warm.be_rank(request, asker.fds))
        os._exit(warm.be_agent(request))  # tearing torch down would take its time

    def _let_go(self, asker: _Asker) -> None:
        """Who asked has ended: torchrun has stopped its rank, or has died."""
        for pidfd, child in self._children.items():
            if child.asker is asker:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._drop_fds(asker)
        self._selector.unregister(asker.socket)
        asker.socket.close()

    def _drop_fds(self, asker: _Asker) -> None:
        for fd in asker.fds:
            os.close(fd)
        asker.fds = ()

    def _tell(self, asker: _Asker, answer: dict[str, int]) -> None:
        try:
            asker.socket.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:  # it is gone, which its end of the socket tells
            return


def _fork() -> int | None:
    """None where no process, or no memory for it, is to be had now."""
    try:
        return os.fork()
    except OSError:
        return None


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
