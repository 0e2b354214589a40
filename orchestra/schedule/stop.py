"""Stopping what a run is doing: the training itself, or else its evaluations."""

from __future__ import annotations

import contextlib

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.asked import note_asked
from orchestra.schedule.seen import Seen, check_seen
from orchestra.schedule.watch import unfinished_evaluations
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.states import ENDED
from orchestra.workspace import Workspace


def stop_run(
    workspace: Workspace, run_id: str, *, now: bool, seen: Seen | None = None
) -> list[JobKey]:
    """Ask for the end of all that the run is doing; the jobs that were asked.

    Raises:
        ConflictError: it is doing nothing, lives on another machine, or is not as `seen` any more.
    """
    with open_registry(workspace.runs) as registry:
        check_seen(workspace, registry, seen)
        row = registry.get_run(run_id)
    jobs = [JobKey(run_id)] if row.state not in ENDED else []
    # Evaluations that the training ranks do themselves end with the training.
    jobs = jobs or unfinished_evaluations(workspace, run_id)
    if not jobs:
        raise ConflictError(f"run {run_id} has ended already: it is {row.state.value}")
    for key in jobs:
        stop(workspace, key, now=now)
    return jobs


def stop(workspace: Workspace, key: JobKey, *, now: bool) -> None:
    """Ask for the end of one job because a user wants it (errors as `stop_job`)."""
    stop_job(workspace, key, now=now)
    # The stop counts more than its note: a registry that can't be written keeps nobody from it.
    with contextlib.suppress(OrchestraError), open_registry(workspace.runs) as registry:
        note_asked(registry, key, "stop now" if now else "stop")
