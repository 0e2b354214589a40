"""`--no-queue`: taking back a job that could not start at once."""

from __future__ import annotations

from orchestra.registry.store import open_registry
from orchestra.schedule.queue import Place, device_reasons
from orchestra.schedule.remove import remove_run
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import ConflictError
from orchestra.workspace import Workspace


def withdraw(workspace: Workspace, place: Place) -> None:
    """Forget a run that has never started, stop a resumed one; unless it starts in this moment.

    Raises:
        ConflictError: it is withdrawn; the message says why it could not start.
    """
    why = f"--no-queue: {place.reason}; {device_reasons(workspace)}"
    run_id = place.key.run_id
    with open_registry(workspace.runs) as registry:
        is_new = registry.get_run(run_id).started_at is None
    if not is_new:
        stop_job(workspace, place.key)
        raise ConflictError(why)
    try:
        remove_run(workspace, run_id)
    except ConflictError:  # another dispatcher was faster
        return
    raise ConflictError(why)
