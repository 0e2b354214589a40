"""Faults that a rank brings upon itself: which, when and where is in the frozen config.

A rank tells in `strikes/` of its job folder when it struck. Of several in one attempt, rank 0's is
the last one.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import tomllib
from collections import deque
from collections.abc import Callable
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from orchestra.wire.checkpoints import committed, step_of
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Beat, Heartbeat, Phase, pages_folder, read_beats
from orchestra.wire.job import JOB, TAG

_WAIT_S = 30.0
_job = Job("train", Path(os.environ[JOB]))
_attempt = int(os.environ[TAG].split(".")[-2])
_rank = int(os.environ["RANK"])
_faults: list[dict[str, Any]] = [
    fault
    for fault in tomllib.loads(_job.config.read_text())["task"].get("faults", [])
    if fault["attempt"] == _attempt
]


def due(where: str) -> str:
    """How this rank is to break here and now; empty: not at all."""
    mine = [f for f in _faults if (f["rank"], f["where"]) == (_rank, where)]
    return next((f["how"] for f in mine if f["step"] == _steps_done()), "") if mine else ""


def strike(where: str) -> None:
    """Break, if it is time."""
    how = due(where)
    if not how:
        return
    in_step = where == "forward"
    if in_step:
        _wait(_is_saved, beating=True)
    others = [fault["rank"] for fault in _faults if fault["rank"] != _rank]
    if _rank == 0:
        _wait(lambda: all(_told(rank).exists() for rank in others), beating=in_step)
    tell()
    _HOW[how]()


def is_step() -> bool:
    """Whether this is a step, and not the throw-away pass before it."""
    return _page().phase is Phase.FORWARD


def tell(text: str = "") -> None:
    """Leave the moment, and what a test wants to know."""
    path = _told(_rank)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{time.time()} {text}")
    temporary.rename(path)


def is_loading() -> bool:
    """Whether the caller is called by what puts a checkpoint back."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_name == "restore":
            return True
    return False


def break_in_rendezvous() -> None:
    """Die as soon as this rank waits for the others, one of which never comes."""
    if due("rendezvous"):
        threading.Thread(target=_die_in_rendezvous, daemon=True).start()
    elif any(fault["where"] == "rendezvous" for fault in _faults):
        time.sleep(_WAIT_S)


def slow_disk(seconds: float) -> None:
    """Make fsync slow; a fault `save` strikes in it, in whatever step that is."""
    fsync = os.fsync
    saves = [fault for fault in _faults if (fault["rank"], fault["where"]) == (_rank, "save")]

    def slow(fd: int) -> None:
        if saves and _steps_done() >= saves[0]["step"]:
            tell()
            _HOW[saves[0]["how"]]()
        time.sleep(seconds)
        if seconds:
            with (_job.folder / "fsyncs").open("a") as file:
                file.write(".")
        fsync(fd)

    os.fsync = slow


def _die_in_rendezvous() -> None:
    _wait(lambda: _page().phase is Phase.INIT)
    tell()
    _sigkill()


def _exception() -> NoReturn:
    raise RuntimeError("boom")


def _gpu_error() -> NoReturn:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _sleep_in_c() -> NoReturn:
    while True:  # a signal ends one sleep
        ctypes.CDLL(None).sleep(600)


def _hold_the_gil() -> NoReturn:
    while True:
        ctypes.PyDLL(None).sleep(600)


def _async_exception() -> NoReturn:
    main = ctypes.c_ulong(threading.get_ident())
    raised = ctypes.py_object(InterruptedError)
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    threading.Thread(target=lambda: throw(main, raised)).start()
    _linger()


def _exception_from_a_signal() -> NoReturn:
    def handle(number: int, frame: object) -> NoReturn:
        raise RuntimeError(f"a handler got signal {number}")

    signal.signal(signal.SIGUSR2, handle)
    os.kill(os.getpid(), signal.SIGUSR2)
    _linger()


def _deaf_to_sigterm() -> NoReturn:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    deque(repeat(0), maxlen=0)  # one call into C that never ends: no handler ever runs
    raise AssertionError


def _linger() -> NoReturn:
    while True:
        time.sleep(0.01)


def _segfault() -> None:
    ctypes.string_at(0)


def _sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _sigstop() -> NoReturn:
    os.kill(os.getpid(), signal.SIGSTOP)
    _linger()  # it is continued to write its stacks


def _kill_a_loader_worker() -> NoReturn:
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    _linger()  # in which torch notices


def _escape() -> None:
    _double_fork(dict(os.environ))


def _escape_without_environment() -> None:
    _double_fork({})


def _double_fork(environment: dict[str, str]) -> None:
    """Leave a process with another session and parent behind; then die."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.execve("/bin/sleep", ["sleep", "600"], environment)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.wait()
    tell(os.read(reading, 20).decode())
    _sigkill()


def _allocate_tensor() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def _allocate_bytes() -> None:
    bytearray(2**62)


def _import_what_is_not_there() -> None:
    import no_such_module  # type: ignore[import-not-found]  # noqa: F401


def _take_a_taken_port() -> None:
    first = dist.TCPStore("127.0.0.1", 0, is_master=True)
    dist.TCPStore("127.0.0.1", first.port, is_master=True)


def _truncate() -> None:
    path = _weights(0)
    os.truncate(path, path.stat().st_size // 2)
    _sigkill()


def _empty() -> None:
    os.truncate(_weights(0), 0)
    _sigkill()


def _flip() -> None:
    _flip_bit(_weights(0))
    _sigkill()


def _flip_two() -> None:
    for newest in (0, 1):
        _flip_bit(_weights(newest))
    _sigkill()


def _remove_manifest() -> None:
    (committed(_job.run.checkpoints)[0] / "manifest.json").unlink()
    _sigkill()


def _flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _weights(newest: int) -> Path:
    """A file of tensors in the newest checkpoint (0), or in the one before (1)."""
    return sorted(committed(_job.run.checkpoints)[newest].glob("*.safetensors"))[0]


_HOW: dict[str, Callable[[], object]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        _exception,
        _gpu_error,
        _sleep_in_c,
        _hold_the_gil,
        _async_exception,
        _exception_from_a_signal,
        _deaf_to_sigterm,
        os.abort,
        _segfault,
        _sigkill,
        _sigint,
        _sigterm,
        _sigstop,
        _kill_a_loader_worker,
        _escape,
        _escape_without_environment,
        _allocate_tensor,
        _allocate_bytes,
        _import_what_is_not_there,
        _take_a_taken_port,
        _truncate,
        _empty,
        _flip,
        _flip_two,
        _remove_manifest,
    )
}


def _is_saved() -> bool:
    """Whether what was to be saved up to here is: a restart is to be from there."""
    steps, every = _steps_done(), tomllib.loads(_job.config.read_text())["checkpoint"]["every"]
    newest = max(map(step_of, committed(_job.run.checkpoints)), default=0)
    return newest >= steps - steps % every


def _steps_done() -> int:
    return _page().step


def _page() -> Beat:
    return next(beat for beat in read_beats(pages_folder(os.environ[TAG])) if beat.rank == _rank)


def _told(rank: int) -> Path:
    return _job.folder / "strikes" / f"{_attempt}.{rank}"


def _wait(condition: Callable[[], bool], *, beating: bool = False) -> None:
    """Bounded. `beating`: a slow disk is not to be taken for the fault that is to come."""
    deadline = time.monotonic() + _WAIT_S
    while not condition() and time.monotonic() < deadline:
        if beating:
            _pulse().beat(_steps_done(), Phase.FORWARD)
        time.sleep(0.01)


@cache
def _pulse() -> Heartbeat:
    """This rank's own, which no task is given."""
    return next(each for each in gc.get_objects() if isinstance(each, Heartbeat))
