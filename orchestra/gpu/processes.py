"""Who the processes on a GPU are, as far as /proc tells this user. Looks only, signals nobody.

In a container NVML may name the host's pids: then /proc has no such process, or another one.
What is found here is for display; only `using` decides something, and it can but refuse.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestra.wire.job import RUN, TAG

_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Owner:
    """A process in words. A field is None where /proc does not tell."""

    name: str | None = None
    """Its command, at most 15 bytes."""
    user: str | None = None
    run_id: str | None = None
    """The run it is tagged with; another user's environment is not readable."""


NOT_TOLD = Owner()


@dataclass(frozen=True)
class Leftover:
    """A tagged process that was given a device."""

    pid: int
    run_id: str


def owner(pid: int) -> Owner:
    """Who `pid` is."""
    return Owner(_name(pid), _user(pid), _environment(pid).get(RUN))


def using(uuids: Collection[str]) -> dict[str, Leftover]:
    """For each device: a live process of a run that was given it, whether NVML shows it or not.

    A rank that has just been started, or sits in the driver, has no context that NVML would list.
    """
    found: dict[str, Leftover] = {}
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        environment = _environment(pid)
        if TAG in environment:
            given = environment.get(_DEVICES, "").split(",")
            leftover = Leftover(pid, environment.get(RUN, "?"))
            found |= {uuid: leftover for uuid in given if uuid in uuids}
    return found


def _name(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return None


def _user(pid: int) -> str | None:
    """From the status file: the folder's owner is root where a process can't be dumped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    uid = int(status.partition("\nUid:")[2].split()[0])
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _environment(pid: int) -> dict[str, str]:
    """What it was started with; empty if it is gone, a zombie, or another user's."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    words = (word.partition("=") for word in os.fsdecode(raw).split("\0") if "=" in word)
    return {name: value for name, _, value in words}
