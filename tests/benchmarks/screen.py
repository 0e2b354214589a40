"""A program on a pseudo-terminal, timed: when some bytes come, and what it costs meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.procfs import cpu_s, parent, pids

SIZE = (120, 36)
_LONGEST_S = 60.0
_PRESSED_EVERY_S = 0.05


class Program:
    """Made by `on_screen`."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int, started_s: float) -> None:
        self._process, self._ours = process, ours
        self.started_s = started_s
        self.pid = process.pid

    def send(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, *what: str, keys: str = "") -> float:
        """When one of these has come (time.perf_counter); `keys` are pressed again until then."""
        seen, wanted = b"", [each.encode() for each in what]
        now_s = time.perf_counter()
        deadline_s, press_s = now_s + _LONGEST_S, now_s
        while not any(each in seen for each in wanted):
            if now_s > deadline_s:
                raise TimeoutError(f"no {what!r} within {_LONGEST_S:g} s: {seen[-2000:]!r}")
            if keys and now_s >= press_s:
                self.send(keys)
                press_s += _PRESSED_EVERY_S
            seen += self._read(_PRESSED_EVERY_S / 2)
            now_s = time.perf_counter()
        return now_s

    def read_for(self, duration_s: float) -> int:
        """Take what comes in this time; how many bytes."""
        deadline, got = time.perf_counter() + duration_s, 0
        while (left_s := deadline - time.perf_counter()) > 0:
            got += len(self._read(left_s))
        return got

    def cpu_s(self) -> float:
        """Of it and all that it started and that lives."""
        busy_s = 0.0
        for pid in _tree(self.pid):
            with contextlib.suppress(OSError):
                busy_s += cpu_s(pid)
        return busy_s

    def _read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._ours], [], [], timeout_s)
        try:
            return os.read(self._ours, 1 << 16) if ready else b""
        except OSError as error:  # nobody has the terminal any more
            raise ChildProcessError(f"it has ended: {self._process.wait()}") from error


@contextmanager
def on_screen(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """`command` on a terminal of SIZE; ended when the block is left."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    started_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, **terminal, **(environment or {})},
        start_new_session=True,
    )
    os.close(its)
    try:
        yield Program(process, ours, started_s)
    finally:
        process.terminate()
        os.close(ours)
        process.wait()


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in pids():
        children.setdefault(parent(pid), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found
