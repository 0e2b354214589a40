"""What a confirmation was about: a run may have changed while its user read the question.

Whoever acts after a question hands in what the question showed; the action refuses if that is
not so any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestra.registry.rows import JobKey, RunRow
from orchestra.registry.store import Registry
from orchestra.schedule.listing import supervisor_of
from orchestra.wire.errors import ConflictError, NotFoundError
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace

#: To whom it was shown, these two are the same: it works.
_AT_WORK = frozenset({RunState.STARTING, RunState.RUNNING})


@dataclass(frozen=True)
class Seen:
    """A run as it was shown."""

    run_id: str
    state: RunState
    attempt: int
    supervisor: ProcessIdentity | None
    evaluations: frozenset[int]
    """Those that were queued or at work."""

    def __str__(self) -> str:
        owner = "" if self.supervisor is None else f" under supervisor {self.supervisor.pid}"
        return f"{self.state.value} in attempt {self.attempt}{owner}"


def see(workspace: Workspace, registry: Registry, row: RunRow) -> Seen:
    """The run now."""
    unfinished = {item.number for item in registry.evaluations(row.id) if item.state not in ENDED}
    supervisor = supervisor_of(workspace, JobKey(row.id))
    return Seen(row.id, row.state, row.attempt, supervisor, frozenset(unfinished))


def check_seen(workspace: Workspace, registry: Registry, seen: Seen | None) -> None:
    """Nothing if the run is as it was shown, or if nothing was shown.

    Raises:
        ConflictError: another state, attempt or supervisor, or an evaluation that was not shown.
    """
    if seen is None:
        return
    try:
        now = see(workspace, registry, registry.get_run(seen.run_id))
    except NotFoundError as error:
        raise ConflictError(f"run {seen.run_id} has changed meanwhile: it was removed") from error
    if not _same(seen, now):
        raise ConflictError(
            f"run {seen.run_id} has changed meanwhile: it was {seen}, it is {now}; look again"
        )
    if new := sorted(now.evaluations - seen.evaluations):
        numbers = ", ".join(map(str, new))
        raise ConflictError(
            f"run {seen.run_id} has changed meanwhile: evaluation {numbers} was not there; "
            "look again"
        )


def _same(seen: Seen, now: Seen) -> bool:
    states = {seen.state, now.state}
    return (
        (len(states) == 1 or states == _AT_WORK)
        and seen.attempt == now.attempt
        and seen.supervisor == now.supervisor
    )
