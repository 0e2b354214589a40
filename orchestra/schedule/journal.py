"""What happened to a run, each event with the attempt and the rank whose log tells more.

Reads the registry alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from orchestra.registry.rows import EventRow, JobKey
from orchestra.registry.store import Registry
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState, RunState

_BAD_KINDS = frozenset({"hang"})
_BAD_ATTEMPTS = frozenset({AttemptState.CRASHED, AttemptState.LOST})
_ARROW = " -> "


@dataclass(frozen=True)
class Entry:
    """One event."""

    time_s: float
    """Unix time."""
    kind: str
    """state, attempt, hang, notice, config, resume ..."""
    text: str
    evaluation: int | None
    """None: it is the run's own."""
    attempt: int | None
    """That was under way, or the last one before; None: there was none yet."""
    rank: int
    """That failed in that attempt; 0 where none is on record."""
    is_error: bool


def journal(registry: Registry, run_id: str) -> tuple[Entry, ...]:
    """Oldest first."""

    @cache
    def attempts(evaluation: int | None) -> Sequence[Attempt]:
        return registry.attempts(JobKey(run_id, evaluation))

    return tuple(_entry(event, attempts(event.evaluation)) for event in registry.events(run_id))


class Journal:
    """What `journal` gives, made anew only when something has happened."""

    def __init__(self) -> None:
        self._until: tuple[str, int] | None = None
        self._entries: tuple[Entry, ...] = ()

    def read(self, registry: Registry, run_id: str) -> tuple[Entry, ...]:
        """The same tuple as before if there is no other event."""
        newest = registry.newest_events(1, run_id=run_id)
        until = (run_id, newest[0].id if newest else 0)
        if until != self._until:
            self._entries = journal(registry, run_id)
            self._until = until
        return self._entries


def _entry(event: EventRow, attempts: Sequence[Attempt]) -> Entry:
    started = [attempt for attempt in attempts if attempt.started_at <= event.time_s]
    attempt = started[-1] if started else None
    rank = (attempt.failure or {}).get("rank") if attempt else None
    return Entry(
        event.time_s,
        event.kind,
        event.text,
        event.evaluation,
        attempt.number if attempt else None,
        rank if isinstance(rank, int) else 0,
        _is_error(event, attempt),
    )


def _is_error(event: EventRow, attempt: Attempt | None) -> bool:
    if event.kind == "attempt" and attempt is not None:
        return attempt.ended_at == event.time_s and attempt.state in _BAD_ATTEMPTS
    if event.kind == "state":
        return event.text.partition(_ARROW)[2].partition(":")[0] == RunState.FAILED
    return event.kind in _BAD_KINDS
