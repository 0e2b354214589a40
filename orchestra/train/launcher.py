"""The warm launcher: imports torch once per job and forks the agent of each attempt from there.

`python -m orchestra.train.launcher` is a child of the supervisor, which talks to it over the socket
that is its standard input, one JSON object per line:

    -> {"arguments": [...], "tag": "...", "log": "..."}     fork an agent
    <- {"pid": 7}                                           it runs
    <- {"pid": 7, "code": 1, "signal": 0}                   it has ended

The process imports and forks: no tensor, no CUDA call, no code of a user. It ends with the socket,
and by the death chain with the supervisor; the agents die with it.
"""

from __future__ import annotations

import os

from orchestra.wire import lifeline

if __name__ == "__main__":
    # Before torch is imported: that takes seconds in which the supervisor may die.
    lifeline.die_with_parent()
    lifeline.announce(os.environ)

import ctypes
import json
import select
import socket
import sys
from pathlib import Path
from typing import Any

from orchestra.wire.job import TAG

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # OpenBLAS starts its threads as NumPy is imported
_LONGEST_REQUEST = 2**20


def main() -> int:
    """Serve one supervisor until it closes the socket."""
    control = _take_over_stdin()
    _name_process("orch-launcher")
    _import_torch()
    requests = control.makefile("rb")
    while line := requests.readline(_LONGEST_REQUEST):
        request = json.loads(line)
        pid = _start(request, control)
        _tell(control, {"pid": pid})
        if not _wait(pid, control):
            return 0
    return 0


def _take_over_stdin() -> socket.socket:
    """The socket, which no descendant inherits; they read nothing from standard input."""
    control = socket.socket(fileno=os.dup(0))
    control.set_inheritable(False)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return control


def _import_torch() -> None:
    """With no thread started: a child forked beside threads could find their locks held."""
    before = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = "1"
    from orchestra.train import agent

    agent.preload()
    if before is None:
        del os.environ[_BLAS_THREADS]
    else:
        os.environ[_BLAS_THREADS] = before


def _start(request: dict[str, Any], control: socket.socket) -> int:
    """Fork the agent; where that is not safe, start it cold."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return _spawn(request)
    pid = os.fork()
    if pid == 0:
        os._exit(_be_agent(request, control))  # at once: tearing down torch would take its time
    return pid


def _be_agent(request: dict[str, Any], control: socket.socket) -> int:
    """The child's whole life."""
    from orchestra.train import agent

    lifeline.die_with_parent()
    control.close()
    _open_log(request["log"])
    _name_process("orch-agent")
    _retag(request["tag"])
    lifeline.announce(os.environ)
    code = agent.main(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _spawn(request: dict[str, Any]) -> int:
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "orchestra.train.agent", *request["arguments"]],
        {**os.environ, TAG: request["tag"]},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, request["log"], append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def _wait(pid: int, control: socket.socket) -> bool:
    """Until the agent has ended, which is told; False if the supervisor closed the socket first."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([pidfd, control.fileno()], [], [])
    finally:
        os.close(pidfd)
    if pidfd not in ready:  # it asks for nothing while an agent is at work: it is gone
        return False
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    _tell(control, {"pid": pid, "code": max(0, code), "signal": max(0, -code)})
    return True


def _tell(control: socket.socket, answer: dict[str, int]) -> None:
    control.sendall(json.dumps(answer).encode() + b"\n")


def _open_log(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _retag(tag: str) -> None:
    """Carry the attempt's tag, for descendants and in what procfs shows of this process.

    procfs shows the memory in which the kernel left the first environment: the launcher's, with a
    tag of the same length in it.

    Raises:
        RuntimeError: it does not show the new tag afterwards, so that no sweep would find us.
    """
    mark = f"{TAG}={os.environ[TAG]}".encode()
    stat = Path("/proc/self/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end of proc(5)
    at = ctypes.string_at(start, end - start).find(mark)
    fresh = f"{TAG}={tag}".encode()
    if at >= 0 and len(fresh) == len(mark):
        ctypes.memmove(start + at, fresh, len(fresh))
    os.environ[TAG] = tag
    if fresh not in Path("/proc/self/environ").read_bytes().split(b"\0"):
        raise RuntimeError(f"the tag {tag} can't be put into this process's environment")


def _name_process(name: str) -> None:
    """What ps and top show."""
    Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    sys.exit(main())
