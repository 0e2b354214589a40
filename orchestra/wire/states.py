"""The states of a run, an evaluation and an attempt, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """A run's (or an evaluation's) state; `reason` beside it says why in one sentence."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"  # the machine wanted it gone; `orchestra up` and `resume` continue it


#: A supervisor must own the run while it is in one of these.
LIVE: frozenset[RunState] = frozenset(
    {RunState.STARTING, RunState.RUNNING, RunState.RESTARTING, RunState.STOPPING}
)
#: Nothing will happen any more unless the user resumes the run.
ENDED: frozenset[RunState] = frozenset(
    {RunState.COMPLETED, RunState.FAILED, RunState.STOPPED, RunState.PREEMPTED}
)


class AttemptState(StrEnum):
    """How one launch stands or ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    CRASHED = "crashed"
    LOST = "lost"  # its supervisor died; a later one swept it
