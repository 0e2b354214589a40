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
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from orchestra.gpu.processes import NOT_TOLD, Owner, owner

#: The error of a machine without GPUs; any other means that something is wrong.
NO_DRIVER = "no NVIDIA driver on this machine (NVML is not installed)"
_NO_UUID = "unknown-"
_NOT_FOUND = "NVML Shared Library Not Found"


@dataclass(frozen=True)
class GpuProcess:
    """A process on a device, as NVML names it (in a container: maybe the host's pid)."""

    pid: int
    memory: int | None
    """Bytes."""
    graphics: bool = False
    """It only draws, like Xorg: no reason of its own not to compute here."""
    owner: Owner = NOT_TOLD


@dataclass(frozen=True)
class Device:
    """One GPU. A field is None where the driver did not tell."""

    index: int
    """NVML's index: PCI order."""
    uuid: str
    """`unknown-INDEX` where the driver hides it."""
    name: str | None = None
    memory_total: int | None = None
    """Bytes."""
    memory_used: int | None = None
    """Bytes, without what the driver reserves."""
    utilisation: int | None = None
    """Percent of the time in which a kernel ran."""
    processes: tuple[GpuProcess, ...] | None = None
    """None where the driver does not tell who computes."""
    memory_utilisation: int | None = None
    """Percent of the time in which memory was read or written."""
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    mig: bool | None = None
    """Cut into instances (MIG), which have UUIDs of their own."""

    @property
    def has_uuid(self) -> bool:
        """Whether it can be leased and handed to CUDA at all."""
        return not self.uuid.startswith(_NO_UUID)

    @property
    def computing(self) -> tuple[GpuProcess, ...]:
        """Its processes without those that only draw."""
        return tuple(process for process in self.processes or () if not process.graphics)


@dataclass(frozen=True)
class Link:
    """What a transfer between two devices (by UUID) crosses, in the words of `nvidia-smi topo`."""

    first: str
    second: str
    kind: str
    """nvlink, pix, pxb, phb, node or sys."""


@dataclass(frozen=True)
class Probe:
    """One reading. `error` is a sentence when NVML is missing, broken or hangs."""

    devices: tuple[Device, ...]
    error: str | None
    links: tuple[Link, ...] = ()
    """Pairs of which the driver tells nothing are left out."""


class Prober:
    """A child that can be asked again and again; a hung one is killed and replaced."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._asked_at: float | None = None
        """Monotonic seconds; None: no answer is awaited."""
        self._line = b""
        """What has come of the answer."""

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
        while (answer := self.poll(deadline_s, wait_s=deadline_s)) is None:
            pass
        return answer

    def poll(self, deadline_s: float = 5.0, *, wait_s: float = 0.0) -> Probe | None:
        """Ask, unless an answer is awaited already; None: it is not there within `wait_s`.

        It is the child that waits for NVML, at most until `deadline_s` after the question.
        """
        try:
            child, asked_at = self._asked()
        except OSError as error:
            return Probe((), f"the process that asks NVML can't be started: {error.strerror}")
        due = asked_at + deadline_s
        self._line += _receive(child, min(due, time.monotonic() + wait_s))
        if self._line.endswith(b"\n"):
            return self._answer()
        if child.poll() is not None:
            self.close()
            return Probe((), "the process that asks NVML died")
        if time.monotonic() < due:
            return None
        self.close()
        return Probe((), f"NVML did not answer within {deadline_s:g} s; the driver may hang")

    def close(self) -> None:
        """Kill the child. One stuck in the driver (state D) is left to the kernel."""
        child, self._child = self._child, None
        self._asked_at, self._line = None, b""
        if child is None:
            return
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _asked(self) -> tuple[subprocess.Popen[bytes], float]:
        """The child and when it was asked, which may be now (OSError)."""
        child = self._running()
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(b"\n")
                child.stdin.flush()
        return child, self._asked_at

    def _answer(self) -> Probe:
        line, self._line, self._asked_at = self._line, b"", None
        try:
            return _parse(json.loads(line))
        except (ValueError, KeyError, TypeError):
            self.close()
            return Probe((), "the process that asks NVML gave no answer that can be read")

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


def _receive(child: subprocess.Popen[bytes], until: float) -> bytes:
    """What comes of a line until then (monotonic seconds); less if the child dies."""
    assert child.stdout is not None
    fd = child.stdout.fileno()
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        left_s = max(0.0, until - time.monotonic())
        while left_s >= 0.0 and selector.select(left_s):
            piece = os.read(fd, 65536)
            line += piece
            if not piece or line.endswith(b"\n"):
                break
            left_s = until - time.monotonic()
    return line


def _parse(answer: dict[str, Any]) -> Probe:
    error: str | None = answer["error"]
    if error is not None:
        return Probe((), NO_DRIVER if error == _NOT_FOUND else f"NVML: {error}")
    devices = tuple(_device(entry) for entry in answer["devices"])
    uuids = {device.index: device.uuid for device in devices}
    links = (Link(uuids[one], uuids[other], kind) for one, other, kind in answer["links"] if kind)
    return Probe(devices, None, tuple(links))


def _device(entry: dict[str, Any]) -> Device:
    fields = {**entry, "processes": _processes(entry)}
    fields.pop("graphics", None)
    fields["uuid"] = entry["uuid"] or f"{_NO_UUID}{entry['index']}"
    return Device(**fields)


def _processes(entry: dict[str, Any]) -> tuple[GpuProcess, ...] | None:
    """Who computes and who draws; who does both computes."""
    if entry.get("processes") is None:
        return None
    computing = [GpuProcess(item["pid"], item["memory"]) for item in entry["processes"]]
    pids = {process.pid for process in computing}
    drawing = [
        GpuProcess(item["pid"], item["memory"], graphics=True)
        for item in entry["graphics"] or ()
        if item["pid"] not in pids
    ]
    return tuple(replace(process, owner=owner(process.pid)) for process in computing + drawing)
