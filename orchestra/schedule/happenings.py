"""What happened, in all runs or in one, and what happens from now on. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestra.registry.rows import NewestEvent
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.listing import any_runs
from orchestra.wire.states import ENDED
from orchestra.workspace import Workspace

_POLL_S = 0.5
_AT_ONCE = 1000


def newest(workspace: Workspace, run_id: str | None, limit: int) -> list[NewestEvent]:
    """The newest events, oldest first."""
    if not any_runs(workspace):
        return []
    with open_registry(workspace.runs) as registry:
        return registry.newest_events(limit, run_id=run_id)


def follow(workspace: Workspace, run_id: str | None, limit: int) -> Iterator[NewestEvent]:
    """The newest events, then each one as it happens: until the run has ended, for ever for all."""
    while not any_runs(workspace):
        time.sleep(_POLL_S)
    with open_registry(workspace.runs) as registry:
        last = 0
        for event in registry.newest_events(limit, run_id=run_id):
            yield event
            last = event.id
        while True:
            ended = _ended(registry, run_id)  # asked before reading: nothing is missed
            for event in registry.newest_events(_AT_ONCE, after_id=last, run_id=run_id):
                yield event
                last = event.id
            if ended:
                return
            time.sleep(_POLL_S)


def _ended(registry: Registry, run_id: str | None) -> bool:
    """Whether nothing more happens: neither in the run nor in an evaluation of it."""
    if run_id is None:
        return False
    states = [registry.get_run(run_id).state]
    states += [row.state for row in registry.evaluations(run_id)]
    return all(state in ENDED for state in states)
