"""The supervisor's end of the warm launcher (train/launcher.py): agents are forked from it.

Importing torch takes longer than all else in a restart; the launcher has done it once. It is kept
from attempt to attempt and replaced if it died.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.supervise import tree
from orchestra.supervise.events import Events
from orchestra.supervise.launch import Launch
from orchestra.supervise.reaper import ExitStatus, Reaper
from orchestra.wire.errors import OrchestraError

_ANSWER_BYTES = 4096
_KILL_S = 0.5


@dataclass
class _Process:
    pid: int
    control: socket.socket
    answers: bytes = b""


class Agent:
    """An agent that was asked for: first without a pid, then at work, then ended."""

    def __init__(self, launcher: Launcher, process: _Process) -> None:
        self._launcher = launcher
        self._process = process
        self.pid: int | None = None
        self.status: ExitStatus | None = None
        """How it ended; the launcher's end is its end too."""

    def poll(self) -> None:
        """Take in what the launcher has told, or that it has ended."""
        for answer in self._launcher.answers(self._process):
            self.pid = answer["pid"]
            if "code" in answer:
                self.status = ExitStatus(answer["code"], answer["signal"])
        if self.status is None:
            self.status = self._launcher.status(self._process)

    def kill_launcher(self) -> None:
        """It does not tell any more what becomes of the agent; its end is the agent's."""
        tree.sweep(self._launcher.tag, _KILL_S)


class Launcher:
    """Asks for agents, one at a time; starts the process behind it when it is needed."""

    def __init__(self, tag: str, reaper: Reaper, events: Events) -> None:
        """`tag`: carried by the process itself; as long as the tag of any attempt."""
        self.tag = tag
        self._reaper = reaper
        self._events = events
        self._process: _Process | None = None

    def fork(self, launch: Launch, log: Path) -> Agent:
        """Ask for the agent of an attempt, whose output goes to `log`.

        A new launcher's own output goes there too.

        Raises:
            OSError: it can't be started.
            OrchestraError: the run's code is of an orchestra without a launcher.
        """
        _require_launcher(launch.code)
        process = self._running(launch, log)
        request = {
            "arguments": launch.agent_arguments(),
            "tag": launch.tag,
            "log": os.fspath(log),
        }
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is told by poll
            process.control.sendall(json.dumps(request).encode() + b"\n")
        return Agent(self, process)

    def close(self) -> None:
        """Let it go: it ends with its socket."""
        if self._process is not None:
            self._hang_up(self._process)
            self._process = None

    def _hang_up(self, process: _Process) -> None:
        if process.control.fileno() >= 0:
            self._events.ignore(process.control.fileno())
            process.control.close()

    def answers(self, process: _Process) -> list[dict[str, Any]]:
        """What it has told since the last call."""
        with contextlib.suppress(BlockingIOError):
            while piece := self._received(process):
                process.answers += piece
        *lines, process.answers = process.answers.split(b"\n")
        return [json.loads(line) for line in lines]

    def _received(self, process: _Process) -> bytes:
        """A piece; empty at the end of the socket, which wakes nobody any more from then on."""
        if process.control.fileno() < 0:
            return b""
        try:
            piece = process.control.recv(_ANSWER_BYTES)
        except ConnectionResetError:
            piece = b""
        if not piece:
            self._hang_up(process)
        return piece

    def status(self, process: _Process) -> ExitStatus | None:
        """How the process behind it ended; None while it runs."""
        return self._reaper.status(process.pid)

    def _running(self, launch: Launch, log: Path) -> _Process:
        """The process; a new one if there is none alive."""
        alive = self._process is not None and self.status(self._process) is None
        if self._process is not None and alive and self._process.control.fileno() >= 0:
            return self._process
        self.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        argv = [sys.executable, "-m", "orchestra.train.launcher", os.fspath(launch.job.folder)]
        environment = launch.environment(os.environ, self.tag)
        with theirs:
            pid = self._reaper.start(argv, environment, log, stdin=theirs.fileno())
        self._process = _Process(pid, ours)
        self._events.listen(ours.fileno())
        return self._process


def _require_launcher(code: Path) -> None:
    """Every attempt runs the code of its run's snapshot, which may be an older orchestra's."""
    if not (code / "orchestra" / "train" / "launcher.py").is_file():
        raise OrchestraError(
            f"the run's code in {code} is of an older orchestra, which this one can't launch: "
            "resume with that version, or start from its weights (`orchestra run --init-from`)"
        )
