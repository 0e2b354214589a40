"""Finding and listing runs. On the hot path of `orchestra ls`: imports next to nothing.

Reading makes nothing: where no run was ever started, no registry is created either.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from orchestra.registry.store import open_registry
from orchestra.wire.errors import NotFoundError
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.registry.rows import RunRow
    from orchestra.workspace import Workspace


def find_run(workspace: Workspace, reference: str) -> str:
    """The id of the run meant by an id, a name, the unique beginning of either, or @last.

    Raises:
        NotFoundError: none or several; the message names candidates.
    """
    if not workspace.runs.path.is_dir():
        raise NotFoundError("there are no runs yet: start one with `orchestra run TASK`")
    with open_registry(workspace.runs) as registry:
        return registry.resolve(reference)


def list_runs(
    workspace: Workspace, *, states: Collection[RunState] | None, limit: int | None
) -> list[RunRow]:
    """Runs, newest first."""
    if not workspace.runs.path.is_dir():
        return []
    with open_registry(workspace.runs) as registry:
        return registry.list_runs(states=states, limit=limit)


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
        "eta_s": row.eta_s,
        "metric": row.metric,
        "score": row.score,
        "best_score": row.best_score,
        "attempt": row.attempt,
        "host": row.host,
        "commit": row.git_commit,
    }
