"""Rows of `orchestra ls`. On its hot path: imports next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestra.registry.rows import RunRow


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
