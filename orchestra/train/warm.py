"""What the warm launcher imports before it forks, and what its children do first.

A forked child is to be like a freshly started program: its own environment, tag, output, random
numbers, death signal.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestra.wire import lifeline
from orchestra.wire.job import TAG

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"  # OpenBLAS starts its threads as NumPy is imported


def preload(folder: Path) -> None:
    """Import what agents and ranks of a job need, with no thread started.

    A child that is forked beside threads could find their locks held for ever.
    """
    before = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = "1"
    gc.disable()  # it finds next to nothing here, for a sixth of the time that the imports take
    from orchestra.train import agent

    agent.preload(folder)
    # What was imported is never garbage. Were it looked through, every child would copy the pages
    # it lies in, and a rank that ends would spend most of a second on a last look.
    gc.freeze()
    gc.enable()
    if before is None:
        del os.environ[_BLAS_THREADS]
    else:
        os.environ[_BLAS_THREADS] = before


def may_fork() -> bool:
    """Whether no import has started a thread."""
    return len(list(Path("/proc/self/task").iterdir())) == 1


def spawn_agent(request: dict[str, Any]) -> int:
    """The agent as a program of its own; its pid."""
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


def be_agent(request: dict[str, Any]) -> int:
    """A forked agent's whole life; its exit code."""
    from orchestra.train import agent

    fd = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _begin("orch-agent", request["tag"], (fd, fd))
    lifeline.announce(os.environ)
    code = agent.main(request["arguments"])
    _flush()
    return code


def be_rank(request: dict[str, Any], outputs: Sequence[int]) -> int:
    """A forked rank's whole life; its exit code.

    Args:
        outputs: stdout and stderr of the process that stands in its place below torchrun.
    """
    environment: dict[str, str] = request["environment"]
    tag, parent = environment[TAG], os.environ[lifeline.PARENT_PID]
    environment |= {lifeline.PARENT_PID: parent, TAG: os.environ[TAG]}
    os.environ.clear()
    os.environ.update(environment)
    _begin("orch-rank", tag, outputs)
    sys.argv = ["orchestra.train.rank", *request["arguments"]]
    from orchestra.train import rank

    code = rank.main()
    _flush()
    return code


def _begin(name: str, tag: str, outputs: Sequence[int]) -> None:
    lifeline.die_with_parent()
    for fd, to in zip(outputs, (1, 2), strict=True):
        os.dup2(fd, to)
    for fd in set(outputs):
        os.close(fd)
    name_process(name)
    _retag(tag)
    # All children of one launcher would otherwise draw the same.
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


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


def name_process(name: str) -> None:
    """What ps and top show."""
    Path("/proc/self/comm").write_text(name)
