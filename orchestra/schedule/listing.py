"""Finding and listing runs. On the hot path of `orchestra ls`: imports next to nothing.

Reading makes nothing: where no run was ever started, no registry is created either.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from orchestra.registry.store import open_registry
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.files import is_disk_full
from orchestra.wire.states import ENDED, LIVE, RunState

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey, RunRow
    from orchestra.wire.identity import ProcessIdentity
    from orchestra.workspace import Workspace


def find_run(workspace: Workspace, reference: str) -> str:
    """The id of the run meant by an id, a name, the unique beginning of either, or @last.

    Raises:
        NotFoundError: none or several; the message names candidates.
    """
    if not any_runs(workspace):
        raise NotFoundError("there are no runs yet: start one with `orchestra run TASK`")
    with open_registry(workspace.runs) as registry:
        return registry.resolve(reference)


def list_runs(
    workspace: Workspace, *, states: Collection[RunState] | None, limit: int | None
) -> list[RunRow]:
    """Runs, newest first. With a filter or in another order: `selection.Runs`."""
    if not any_runs(workspace):
        return []
    with open_registry(workspace.runs) as registry:
        return registry.list_runs(states=states, limit=limit)


def supervisor_of(workspace: Workspace, key: JobKey) -> ProcessIdentity | None:
    """Who owns the job according to its folder; None also where the folder is damaged."""
    from orchestra.supervise.jobs import job_of
    from orchestra.wire.job import JobState

    try:
        return JobState.read(job_of(workspace.runs, key)).supervisor
    except (FileNotFoundError, OrchestraError):
        return None


def health(workspace: Workspace, key: JobKey, state: RunState) -> str:
    """A few words on a live job's supervisor and disk, for people; empty if there are none."""
    supervisor = supervisor_of(workspace, key) if state in LIVE else None
    if supervisor is None:
        return ""
    if not supervisor.is_here():
        return f"lives on host {supervisor.host}"
    if not supervisor.is_alive():
        return "its supervisor died: `orchestra wait` revives it"
    if is_disk_full(workspace.runs.path):
        return f"the disk of {workspace.runs.path} is full, what is shown is old: make room"
    return ""


def any_runs(workspace: Workspace) -> bool:
    """Whether there is a registry, or a run folder to make it from."""
    runs = workspace.runs
    if runs.registry.is_file():
        return True
    return runs.path.is_dir() and any(
        runs.run(entry.name).identity.is_file() for entry in runs.path.iterdir()
    )


def list_row(row: RunRow) -> dict[str, Any]:
    """One row of `orchestra ls --json`."""
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state.value,
        "reason": row.reason,
        "task": row.task,
        "upstream": row.upstream,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "step": row.step,
        "max_steps": row.max_steps,
        "loss": row.loss,
        "audio_s_per_s": row.audio_s_per_s,
        "eta_s": None if row.state in ENDED else row.eta_s,
        "metric": row.metric,
        "score": row.score,
        "best_score": row.best_score,
        "attempt": row.attempt,
        "host": row.host,
        "gpus": row.gpus,
        "devices": list(row.devices),
        "commit": row.git_commit,
        "branch": row.git_branch,
        "dirty": row.git_dirty,
        "tags": list(row.tags),
        "note": row.remark,
        "parent": row.parent or None,
        "member": row.member or None,
    }
