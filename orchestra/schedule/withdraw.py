"""`--no-queue`: taking back a job that could not start at once."""

from __future__ import annotations

from orchestra.schedule.queue import Place, device_reasons
from orchestra.schedule.remove import remove_run
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import ConflictError
from orchestra.workspace import Workspace


def forget(workspace: Workspace, place: Place) -> None:
    """Remove a new run, as if it had never been asked for; unless it starts in this moment.

    Raises:
        ConflictError: it is removed; the message says why it could not start.
    """
    refusal = _refusal(workspace, place)
    try:
        remove_run(workspace, place.key.run_id)
    except ConflictError:  # another dispatcher was faster
        return
    raise refusal


def end_again(workspace: Workspace, place: Place) -> None:
    """Stop a run that was just resumed (ConflictError, always: why it could not start)."""
    refusal = _refusal(workspace, place)
    stop_job(workspace, place.key)
    raise refusal


def _refusal(workspace: Workspace, place: Place) -> ConflictError:
    devices = device_reasons(workspace)
    return ConflictError(f"--no-queue: {place.reason}" + (f" [{devices}]" if devices else ""))
