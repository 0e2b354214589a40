"""Who had which GPU when, in the last hours: from the attempts on record.

Reads the registry and job folders. What nobody of this workspace had stays empty: others keep
their own records.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.listing import any_runs
from orchestra.supervise.jobs import job_of
from orchestra.wire.errors import OrchestraError
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import AttemptState
from orchestra.workspace import Workspace


@dataclass(frozen=True)
class Stay:
    """One attempt on one device."""

    run_id: str
    name: str
    evaluation: int | None
    attempt: int
    began_at: float
    """Unix time."""
    ended_at: float
    """That of the question while it lives."""
    lives: bool


Lanes = dict[str, tuple[Stay, ...]]
"""By the device's UUID, in order of time."""


def read_lanes(workspace: Workspace, since_s: float, now_s: float) -> Lanes:
    """All that reach into the time from `since_s` on (Unix times)."""
    if not any_runs(workspace):
        return {}
    with open_registry(workspace.runs) as registry:
        attempts = registry.attempts_since(since_s)
    found: dict[str, list[Stay]] = {}
    for key, name, attempt in attempts:
        ended_at, lives = _end(workspace, key, attempt, now_s)
        if ended_at < since_s:
            continue
        stay = Stay(
            key.run_id, name, key.evaluation, attempt.number, attempt.started_at, ended_at, lives
        )
        for device in attempt.devices:
            found.setdefault(device, []).append(stay)
    return {
        device: tuple(sorted(stays, key=lambda stay: stay.began_at))
        for device, stays in found.items()
    }


def to_json(lanes: Lanes) -> dict[str, Any]:
    """Devices, and the stays of each."""
    return {device: [asdict(stay) for stay in stays] for device, stays in lanes.items()}


def _end(workspace: Workspace, key: JobKey, attempt: Attempt, now_s: float) -> tuple[float, bool]:
    """When it ended. One whose supervisor died ended with it, which nobody wrote down: at the
    latest change of the job's state."""
    if attempt.ended_at is not None:
        return attempt.ended_at, False
    if attempt.state != AttemptState.RUNNING:
        return attempt.started_at, False
    try:
        state = JobState.read(job_of(workspace.runs, key))
    except (FileNotFoundError, OrchestraError):
        return attempt.started_at, False
    if state.attempt != attempt.number or state.is_orphaned() or state.supervisor is None:
        return max(attempt.started_at, state.updated_at), False
    return now_s, True
