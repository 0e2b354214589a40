"""What NVML says about the GPUs of this machine, within a deadline. Never raises for a bad driver.

NVML is asked by a child process (`orchestra.gpu.nvml`), because a call into a sick driver may
never return: the child is killed at the deadline and the caller goes on with an error text.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

_NOT_FOUND = "NVML Shared Library Not Found"


@dataclass(frozen=True)
class GpuProcess:
    """A compute process on a device, as NVML names it (in a container: maybe the host's pid)."""

    pid: int
    memory: int | None
    """Bytes."""


@dataclass(frozen=True)
class Device:
    """One GPU. A field is None where the driver did not tell."""

    index: int
    """NVML's index: PCI order."""
    uuid: str
    name: str | None
    memory_total: int | None
    """Bytes."""
    memory_used: int | None
    """Bytes, without what the driver reserves."""
    utilisation: int | None
    """Percent."""
    processes: tuple[GpuProcess, ...] | None


@dataclass(frozen=True)
class Probe:
    """One reading. `error` is a sentence when NVML is missing, broken or hangs."""

    devices: tuple[Device, ...]
    error: str | None


class Prober:
    """A child that can be asked again and again; a hung one is killed and replaced."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prober:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, deadline_s: float = 5.0) -> Probe:
        """Ask once; at the deadline the child is killed."""
        child = self._running()
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(b"\n")
            child.stdin.flush()
        line = _read_line(child, time.monotonic() + deadline_s)
        if line is None:
            self.close()
            return Probe((), f"NVML did not answer within {deadline_s:g} s; the driver may hang")
        if not line.endswith(b"\n"):
            self.close()
            return Probe((), "the process that asks NVML died")
        return _parse(json.loads(line))

    def close(self) -> None:
        """Kill the child. One stuck in the driver (state D) is left to the kernel."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestra.gpu.nvml"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is not meant for it
            )
        return self._child


def probe(deadline_s: float = 5.0) -> Probe:
    """One reading by a child of its own."""
    with Prober() as prober:
        return prober.read(deadline_s)


def _read_line(child: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """One line, a shorter piece if the child died, None at the deadline (monotonic seconds)."""
    assert child.stdout is not None
    fd = child.stdout.fileno()
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(fd, 65536)
            if not piece:
                return line
            line += piece
    return line


def _parse(answer: dict[str, Any]) -> Probe:
    error: str | None = answer["error"]
    if error is not None:
        known = "no NVIDIA driver on this machine (NVML is not installed)"
        return Probe((), known if error == _NOT_FOUND else f"NVML: {error}")
    return Probe(tuple(_device(entry) for entry in answer["devices"]), None)


def _device(entry: dict[str, Any]) -> Device:
    processes = entry.get("processes")
    return Device(
        index=entry["index"],
        # A device that hides its UUID can't be leased; the name says why it never is.
        uuid=entry["uuid"] or f"unknown-{entry['index']}",
        name=entry.get("name"),
        memory_total=entry.get("memory_total"),
        memory_used=entry.get("memory_used"),
        utilisation=entry.get("utilisation"),
        processes=None
        if processes is None
        else tuple(GpuProcess(item["pid"], item["memory"]) for item in processes),
    )
