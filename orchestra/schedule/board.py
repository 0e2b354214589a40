"""What a run is doing, in one word and one sentence: for `orchestra ls` and the monitor's table.

Reads the registry, job folders and heartbeat pages; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestra.registry.rows import RunRow


class Doing(StrEnum):
    """A run's state as people want it: finer than `RunState` while it lives."""

    QUEUED = "queued"
    STARTING = "starting"
    WORKING = "working"
    STALLED = "stalled"  # silent for longer than usual; its supervisor counts down
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ORPHANED = "orphaned"  # its supervisor died; a conductor or the next command revives it
    ELSEWHERE = "elsewhere"  # lives on another machine
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"


@dataclass(frozen=True)
class RunView:
    """A run at one moment."""

    row: RunRow
    doing: Doing
    note: str
    """A sentence: why it waits, what it is stalled in and what will be done, why it failed."""
    step: int
    """The newest step that is known, of the heartbeats while it lives."""
    silent_s: float | None
    """Since the newest heartbeat of the rank that is silent the longest; None: it does not beat."""
    tags: tuple[str, ...] = ()
    remark: str = ""
    """The user's note."""

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def lasted_s(self) -> float | None:
        """From its first start to its end; None where either is not on record or not yet there."""
        if self.row.started_at is None or self.row.ended_at is None:
            return None
        return self.row.ended_at - self.row.started_at
