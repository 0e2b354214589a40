"""`--no-queue`: taking back a job that could not start at once."""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.queue import device_reasons
from orchestra.schedule.remove import remove_run
from orchestra.supervise.jobs import job_of
from orchestra.supervise.lock import FileLock
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.state import JobRecord
from orchestra.wire.errors import ConflictError
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace


def forget(workspace: Workspace, key: JobKey, reason: str) -> None:
    """Remove a new run, as if it had never been asked for; unless it starts in this moment.

    Raises:
        ConflictError: it is removed; the message says why it could not start.
    """
    refusal = _refusal(workspace, reason)
    try:
        remove_run(workspace, key.run_id)
    except ConflictError:  # another dispatcher was faster
        return
    raise refusal


def end_again(workspace: Workspace, key: JobKey, reason: str) -> None:
    """Stop a run that was just resumed; unless it starts in this moment.

    Raises:
        ConflictError: it is stopped; the message says why it could not start.
    """
    refusal = _refusal(workspace, reason)
    job = job_of(workspace.runs, key)
    lock = FileLock.acquire_if_free(job.lock)
    if lock is None:  # another dispatcher was faster
        return
    with lock, open_registry(workspace.runs) as registry:
        record = JobRecord(job, key, registry, Mirror(), supervisor=None)
        if record.state.state != RunState.QUEUED:
            return
        record.move(RunState.STOPPED, "stopped before it started")
    raise refusal


def _refusal(workspace: Workspace, reason: str) -> ConflictError:
    devices = device_reasons(workspace)
    return ConflictError(f"--no-queue: {reason}" + (f" [{devices}]" if devices else ""))
