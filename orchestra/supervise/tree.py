"""Finds and kills everything that belongs to an attempt, by the unique value of its tag.

The tag is in the environment of every descendant, whatever session, parent or name it has.
Never kills by name, by pattern or by a bare pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestra.wire.identity import ProcessIdentity, start_ticks
from orchestra.wire.job import JOB, RUN, TAG, WORKSPACE

#: One tag, or several that belong together: an attempt's own and its warm launcher's.
Tags = str | Collection[str]

_SCAN_PAUSE_S = 0.02
# One is not enough: a process may fork while the other pids are read, or be in the middle of
# exec, when its environment reads as empty.
_EMPTY_SCANS = 2


@dataclass(frozen=True)
class Sweep:
    """What a sweep did. `leftovers` describes processes that survived SIGKILL."""

    killed: int
    leftovers: tuple[str, ...]


@dataclass(frozen=True)
class Tagged:
    """A live process and what its initial environment says about the job it belongs to."""

    process: ProcessIdentity
    tag: str
    run_id: str
    job: str
    """The job folder; empty for processes that an older orchestra started."""
    workspace: str


def tagged(tags: Tags) -> list[ProcessIdentity]:
    """All live processes whose initial environment holds exactly one of these tags."""
    wanted = _entries(tags)
    found = []
    for pid in _pids():
        if not wanted.isdisjoint(_environment(pid)):
            identity = ProcessIdentity.of(pid)
            if identity is not None:
                found.append(identity)
    return found


def scan() -> list[Tagged]:
    """All live processes of this very user (root too sees its own alone) that carry any tag."""
    found = []
    for pid in _pids():
        said = _job_variables(pid) if _is_mine(pid) else {}
        identity = ProcessIdentity.of(pid) if said.get(TAG) else None
        if identity is not None:
            run_id, job, workspace = (said.get(name, "") for name in (RUN, JOB, WORKSPACE))
            found.append(Tagged(identity, said[TAG], run_id, job, workspace))
    return found


def kill(process: ProcessIdentity, tags: Tags, number: int = signal.SIGKILL) -> bool:
    """Send a signal to this very process, if it still lives and still carries one of the tags.

    The pidfd is opened before identity and tag are checked again: a reused pid is never hit.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.is_alive() or _entries(tags).isdisjoint(_environment(process.pid)):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def sweep(tags: Tags, deadline_s: float, spare: Collection[int] = ()) -> Sweep:
    """Kill all that carries a tag, save the pids in `spare`, until two scans in a row are empty.

    Returns within about `deadline_s` even if a process sits in the kernel and can't die.
    """
    deadline = time.monotonic() + deadline_s
    hit: set[ProcessIdentity] = set()
    empty = 0
    while True:
        alive = [process for process in tagged(tags) if process.pid not in spare]
        empty = 0 if alive else empty + 1
        if empty == _EMPTY_SCANS:
            return Sweep(len(hit), ())
        if time.monotonic() >= deadline:
            return Sweep(len(hit), tuple(describe(process.pid) for process in alive))
        hit.update(process for process in alive if kill(process, tags))
        time.sleep(_SCAN_PAUSE_S)


def describe(pid: int) -> str:
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


def _pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _is_mine(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
    return False


def _environment(pid: int) -> list[bytes]:
    """The `NAME=value` entries; empty where the process is gone, in exec, or another user's."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _entries(tags: Tags) -> set[bytes]:
    each = (tags,) if isinstance(tags, str) else tags
    return {os.fsencode(f"{TAG}={tag}") for tag in each if tag}


def _job_variables(pid: int) -> dict[str, str]:
    pairs = (
        os.fsdecode(entry).partition("=")
        for entry in _environment(pid)
        if entry.startswith(b"ORCHESTRA_")
    )
    return {name: value for name, _, value in pairs}
