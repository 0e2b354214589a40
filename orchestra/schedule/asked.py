"""Who asked for what: each thing that a user does to a run is an event of its history."""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.wire.identity import user_name

KIND = "action"
"""Of the events."""


def note_asked(registry: Registry, key: JobKey, what: str) -> None:
    """`what` as in "stop asked by ann"."""
    registry.add_event(
        key.run_id, KIND, f"{what} asked by {user_name()}", evaluation=key.evaluation
    )
