"""orchestra ls"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.columns import RIGHT, cells, columns, computed
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, say, table
from orchestra.wire.errors import UsageError
from orchestra.wire.states import LIVE, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.registry.rows import RunRow
    from orchestra.workspace import Workspace

_SCREENFUL = 30


def ls(
    context: typer.Context,
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]...", help="A filter, as above.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="Only these; repeatable.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="-FIELD: the largest, the newest first."),
    ] = None,
    columns_: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B", help="Such as id,name,best,tags,cfg.optim.lr."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="At most N; default 30, JSON all."),
    ] = None,
    json: options.Json = False,
) -> None:
    """List runs, newest first, or those that a filter lets through.

    \b
    Examples:
      orchestra ls
      orchestra ls --state running --state queued
      orchestra ls 'state:failed cfg.optim.lr>1e-4'
      orchestra ls 'wavlm not tag:draft created<3d' --sort best
      orchestra ls tag:paper --columns name,best,cfg.optim.lr,eval.test.wer
      orchestra ls --json | jq -r '.[] | select(.state == "failed") | .id'

    \b
    Filter:
      asr wavlm          both words, in the id, name, task, upstream, tags or note
      FIELD:PART         a part of it; with * or ? the whole of it
      FIELD=X  FIELD!=X  exactly that, or anything but that
      FIELD<N  <= > >=   numbers (1e-4, 10k); times by age: created<2h, ended>3d
      has:FIELD          it is known and not empty
      not, -, and, or, parentheses, quotes for text with spaces or signs
    Fields: id name task upstream state tag note reason branch commit dirty host
    metric gpus priority attempt step loss score best age created started ended
    parent member,
    cfg.KEY (the frozen config), eval.SPLIT.METRIC (the newest result).
    """
    states = [_state(word) for word in state] if state else None
    names = columns(columns_)
    most = limit if limit or json else _SCREENFUL
    workspace = workspace_of(context)
    rows, values = _rows(
        workspace,
        " ".join(query or ()),
        sort or "",
        states,
        limit=most and most + 1,
        more=[name for name in names if computed(name)],
    )
    left_out = most is not None and len(rows) > most
    rows = rows[:most]
    if json:
        emit_json(_documents(workspace, rows, values))
        return
    if not rows:
        say(
            "no such runs"
            if states or query
            else "no runs yet: start one with `orchestra run TASK`"
        )
        return
    _print(workspace, rows, names, values)
    if columns_ is None and any(row.parent for row in rows):
        from orchestra.cli.members import print_parents

        print_parents(workspace, rows)
    if left_out and not limit:
        say(f"the {'first' if sort else 'newest'} {most} are shown; --limit N shows more")


def _state(word: str) -> RunState:
    try:
        return RunState(word)
    except ValueError:
        raise UsageError(f"--state {word!r}: states are {', '.join(RunState)}") from None


def _rows(
    workspace: Workspace,
    query: str,
    sort: str,
    states: Sequence[RunState] | None,
    *,
    limit: int | None,
    more: Sequence[str],
) -> tuple[list[RunRow], dict[str, dict[str, Any]]]:
    """The runs, and of each the values of the computed columns `more`."""
    from orchestra.schedule.listing import any_runs, list_runs

    if not (query or sort or more):
        return list_runs(workspace, states=states, limit=limit), {}
    from orchestra.registry.store import open_registry
    from orchestra.schedule.selection import Runs, selection

    wanted = selection(query, sort, states or ())
    if not any_runs(workspace):
        return [], {}
    with open_registry(workspace.runs) as registry:
        runs = Runs(registry, workspace.runs)
        rows = runs.select(wanted, limit=limit)
        return rows, runs.values(more, [row.id for row in rows])


def _documents(
    workspace: Workspace, rows: Sequence[RunRow], values: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    from orchestra.schedule.listing import list_row

    live: dict[str, dict[str, Any]] = {}
    if any(row.state in LIVE for row in rows):  # else nothing beats
        from orchestra.schedule.board import live_json

        live = live_json(workspace, rows)
    return [
        {
            **list_row(row),
            "doing": row.state.value,
            "says": row.reason,
            "silent_s": None,
            **live.get(row.id, {}),
            **({"values": values[row.id]} if row.id in values else {}),
        }
        for row in rows
    ]


def _print(
    workspace: Workspace,
    rows: Sequence[RunRow],
    names: Sequence[str],
    values: dict[str, dict[str, Any]],
) -> None:
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.listing import health

    lines = []
    for row in rows:
        note = health(workspace, JobKey(row.id), row.state) if "reason" in names else ""
        lines.append(cells(row, names, note, values.get(row.id, {})))
    table(lines, right=(*RIGHT, *(name for name in names if "." in name)))
