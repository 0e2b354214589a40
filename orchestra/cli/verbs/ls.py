"""orchestra ls"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, say, table
from orchestra.formats import ago, number
from orchestra.wire.errors import UsageError
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.registry.rows import RunRow

_SCREENFUL = 30


def ls(
    context: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Only these; repeatable.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="Newest N; default 30, JSON all."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List runs, newest first.

    \b
    Examples:
      orchestra ls
      orchestra ls --state running --state queued
      orchestra ls --json | jq -r '.[] | select(.state == "failed") | .id'
    """
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.listing import health, list_row, list_runs

    states = [_state(word) for word in state] if state else None
    most = limit if limit or json else _SCREENFUL
    workspace = workspace_of(context)
    rows = list_runs(workspace, states=states, limit=most and most + 1)
    more = most is not None and len(rows) > most
    rows = rows[:most]
    if json:
        emit_json([list_row(row) for row in rows])
        return
    if not rows:
        say("no runs yet: start one with `orchestra run TASK`" if not states else "no such runs")
        return
    notes = [health(workspace, JobKey(row.id), row.state) for row in rows]
    table(
        [_cells(row, note) for row, note in zip(rows, notes, strict=True)],
        right=("step", "loss", "score"),
    )
    if more and not limit:
        say(f"the newest {most} are shown; --limit N shows more")


def _state(word: str) -> RunState:
    try:
        return RunState(word)
    except ValueError:
        raise UsageError(f"--state {word!r}: states are {', '.join(RunState)}") from None


def _cells(row: RunRow, note: str) -> dict[str, str]:
    score = "-" if row.best_score is None else f"{row.metric or ''} {number(row.best_score)}"
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state.value,
        "step": f"{row.step}/{row.max_steps}" if row.max_steps else str(row.step),
        "loss": number(row.loss),
        "score": score.strip(),
        "created": ago(row.created_at),
        "reason": "; ".join(filter(None, (note, row.reason))),
    }
