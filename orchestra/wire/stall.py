"""stall.json: that a rank is silent for long and what is done when, beside the heartbeat pages.

The supervisor writes it when it changes and removes it when beats come. Its times are of the
machine's monotonic clock, so that a reader counts down by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestra.wire.files import write_json
from orchestra.wire.heartbeat import Phase, make_private

VERSION = 1
_NAME = "stall.json"
_LONGEST_BYTES = 4096


@dataclass(frozen=True)
class StallNotice:
    """The rank that will be named as stalled if no beat comes."""

    rank: int
    pid: int
    """0: it never started."""
    phase: Phase
    step: int
    state: str
    """The kernel's letter (see supervise/hang.py); empty: not known."""
    since_s: float
    due_s: float
    """When it is judged; both by time.monotonic()."""
    action: str
    """What will be done then: `restart 2 of 3 from step 1200`, `end: no restart is left ...`."""

    def silent_s(self, now_s: float) -> float:
        """For how long, at this moment of time.monotonic()."""
        return max(0.0, now_s - self.since_s)

    def left_s(self, now_s: float) -> float:
        """Until it is judged."""
        return max(0.0, self.due_s - now_s)

    def sentence(self, now_s: float) -> str:
        """Who is silent where and since when, and what follows."""
        where = f"in {self.phase.name.lower()} at step {self.step}"
        for_s = f"for {self.silent_s(now_s):.0f} s"
        if not self.pid:
            who = f"rank {self.rank} has not started {for_s}"
        elif self.state == "T":
            who = f"rank {self.rank} is stopped (SIGSTOP) {where} {for_s}"
        else:
            kernel = ", waiting in the kernel (state D)" if self.state == "D" else ""
            who = f"rank {self.rank} is silent {where}{kernel} {for_s}"
        return f"{who}; in {self.left_s(now_s):.0f} s: {self.action}"


def write_stall(folder: Path, notice: StallNotice) -> None:
    """Replace the notice of an attempt's `pages_folder` (OrchestraError)."""
    make_private(folder)
    write_json(folder / _NAME, {"version": VERSION, **asdict(notice)})


def remove_stall(folder: Path) -> None:
    """Beats have come, or no verdict will."""
    with contextlib.suppress(OSError):
        (folder / _NAME).unlink()


def read_stall(folder: Path) -> StallNotice | None:
    """The notice; None if there is none, or one that is torn, foreign or of another version."""
    try:
        document = json.loads(_own_file(folder / _NAME))
        if document["version"] != VERSION:
            return None
        return StallNotice(
            rank=int(document["rank"]),
            pid=int(document["pid"]),
            phase=Phase(document["phase"]),
            step=int(document["step"]),
            state=str(document["state"]),
            since_s=float(document["since_s"]),
            due_s=float(document["due_s"]),
            action=str(document["action"]),
        )
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _own_file(path: Path) -> bytes:
    """Its folder's name is known to all: whatever another user put there is not read (OSError)."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != os.getuid():
            return b""
        return os.read(fd, _LONGEST_BYTES)
    finally:
        os.close(fd)
