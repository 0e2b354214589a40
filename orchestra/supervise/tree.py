"""Finds and kills everything that belongs to an attempt, by the unique value of its tag.

The tag is in the environment of every descendant, whatever session, parent or name it has.
Never kills by name, by pattern or by a bare pid.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestra.wire.identity import ProcessIdentity, start_ticks
from orchestra.wire.job import TAG

_SCAN_PAUSE_S = 0.02
# One is not enough: a process may fork while the other pids are read, or be in the middle of
# exec, when its environment reads as empty.
_EMPTY_SCANS = 2


@dataclass(frozen=True)
class Sweep:
    """What a sweep did. `leftovers` describes processes that survived SIGKILL."""

    killed: int
    leftovers: tuple[str, ...]


def tagged(tag: str) -> list[ProcessIdentity]:
    """All live processes of this user whose initial environment holds exactly this tag."""
    found = []
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        if _has_tag(pid, tag):
            identity = ProcessIdentity.of(pid)
            if identity is not None:
                found.append(identity)
    return found


def kill(process: ProcessIdentity, tag: str, number: int = signal.SIGKILL) -> bool:
    """Send a signal to this very process, if it still lives and still carries the tag.

    The pidfd is opened before identity and tag are checked again: a reused pid is never hit.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.is_alive() or not _has_tag(process.pid, tag):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def sweep(tag: str, deadline_s: float, spare: Collection[int] = ()) -> Sweep:
    """Kill all that carries `tag`, save the pids in `spare`, until two scans in a row are empty.

    Returns within about `deadline_s` even if a process sits in the kernel and can't die.
    """
    deadline = time.monotonic() + deadline_s
    hit: set[ProcessIdentity] = set()
    empty = 0
    while True:
        alive = [process for process in tagged(tag) if process.pid not in spare]
        empty = 0 if alive else empty + 1
        if empty == _EMPTY_SCANS:
            return Sweep(len(hit), ())
        if time.monotonic() >= deadline:
            return Sweep(len(hit), tuple(_describe(process.pid) for process in alive))
        hit.update(process for process in alive if kill(process, tag))
        time.sleep(_SCAN_PAUSE_S)


def _has_tag(pid: int, tag: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return f"{TAG}={tag}".encode() in environment.split(b"\0")


def _describe(pid: int) -> str:
    """`python (pid 7, state D in nvidia_ioctl)`."""
    name, state, channel = _read(pid, "comm"), "?", _read(pid, "wchan")
    if start_ticks(pid) is not None:
        state = _read(pid, "stat").rpartition(")")[2].split()[0]
    where = f" in {channel}" if channel not in ("", "0") else ""
    return f"{name or 'process'} (pid {pid}, state {state}{where})"


def _read(pid: int, entry: str) -> str:
    try:
        return Path(f"/proc/{pid}/{entry}").read_text(errors="replace").strip()
    except OSError:
        return ""
