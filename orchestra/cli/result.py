"""The end of a job for people: verdict, metrics, where everything lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestra.cli.output import clean, emit, number, paint, say, table
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.schedule.watch import View
    from orchestra.workspace import Workspace


def print_result(workspace: Workspace, view: View) -> None:
    """Metrics of the evaluation, or of all evaluations of the run, on stdout."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.describe import describe

    with open_registry(workspace.runs) as registry:
        document = describe(workspace, registry, view.key.run_id)
    rows = document["evaluations"]
    if view.key.evaluation is not None:
        rows = [row for row in rows if row["number"] == view.key.evaluation]
    metrics_table(rows)
    if view.key.evaluation is None:
        for split, counts in document["data"].items():
            emit(
                f"{split}: {counts['count']} utterances, {counts['seconds'] / 60:.1f} min, "
                f"{counts['words']} distinct words"
            )
    emit(f"run {document['id']} ({clean(document['name'])}) in {document['folders']['run']}")
    if view.state != RunState.COMPLETED:
        say(f"{view.state.value}: {view.reason}" if view.reason else view.state.value)
        if view.state == RunState.FAILED:
            say(f"look at `orchestra logs {document['id']}`; `orchestra resume {document['id']}`")


def metrics_table(evaluations: Sequence[dict[str, Any]]) -> None:
    """One row per evaluation, one column per metric that any of them has."""
    names = list(dict.fromkeys(name for row in evaluations for name in row["metrics"]))
    table(
        [
            {
                "split": row["split"],
                "checkpoint": _checkpoint(row),
                "state": row["state"],
                **{name: number(row["metrics"].get(name)) for name in names},
            }
            for row in evaluations
        ],
        right=names,
    )


def bold(text: str) -> str:
    """A heading on stdout."""
    return paint(text, "bold")


def _checkpoint(row: dict[str, Any]) -> str:
    step = row["checkpoint_step"]
    return f"{row['checkpoint']}{f' (step {step})' if step is not None else ''}"
