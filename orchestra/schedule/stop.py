"""Stopping what a run is doing: the training itself, or else its evaluations."""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.watch import unfinished_evaluations
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import ConflictError
from orchestra.wire.states import ENDED
from orchestra.workspace import Workspace


def stop_run(workspace: Workspace, run_id: str, *, now: bool) -> list[JobKey]:
    """Ask for the end of all that the run is doing; the jobs that were asked.

    Raises:
        ConflictError: it is doing nothing, or lives on another machine.
    """
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run_id)
    jobs = [JobKey(run_id)] if row.state not in ENDED else []
    # Evaluations that the training ranks do themselves end with the training.
    jobs = jobs or unfinished_evaluations(workspace, run_id)
    if not jobs:
        raise ConflictError(f"run {run_id} has ended already: it is {row.state.value}")
    for key in jobs:
        stop_job(workspace, key, now=now)
    return jobs
