"""What follows once a job is queued, for `run`, `resume` and `eval` as for the monitor: it starts,
if it is its turn, and somebody cares for all that wait."""

from __future__ import annotations

from collections.abc import Callable

from orchestra.registry.rows import JobKey
from orchestra.schedule.conductor import ensure_conductor
from orchestra.schedule.dispatch import dispatch
from orchestra.schedule.queue import Place, position_of
from orchestra.wire.errors import OrchestraError
from orchestra.workspace import Workspace

Withdraw = Callable[[Workspace, JobKey, str], None]


def begin(workspace: Workspace, key: JobKey, *, withdraw: Withdraw | None = None) -> Place | None:
    """Start what can start; where `key` waits and why, if it is not among it.

    Args:
        withdraw: called, with the reason, if `key` can't start now, instead of waiting.

    Raises:
        OrchestraError: as `dispatch`, `ensure_conductor` and `withdraw`.
    """
    try:
        return _dispatch(workspace, key, withdraw)
    finally:  # whatever has become of this job, others may wait
        ensure_conductor(workspace)


def _dispatch(workspace: Workspace, key: JobKey, withdraw: Withdraw | None) -> Place | None:
    try:
        started = dispatch(workspace)
    except OrchestraError as error:
        if withdraw is not None:
            withdraw(workspace, key, str(error))
        raise
    place = None if key in started else position_of(workspace, key)
    if place is None or withdraw is None:
        return place
    withdraw(workspace, key, place.reason)
    return None
