"""orchestra events"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, emit_json_line, say
from orchestra.formats import ago

if TYPE_CHECKING:
    from orchestra.registry.rows import NewestEvent


def events(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Of this run; default: of all.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what happens, until the run has ended."),
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="The newest N.")
    ] = 30,
    json: options.Json = False,
) -> None:
    """Print what happened: starts, restarts and why, ends.
    The newest last.

    With --follow --json each event is one line of JSON, printed when it happens.

    \b
    Examples:
      orchestra events
      orchestra events @last --limit 100
      orchestra events -f --json | jq -r 'select(.text | test("failed")) | .name'
    """
    from orchestra.schedule.happenings import follow as following
    from orchestra.schedule.happenings import newest
    from orchestra.schedule.listing import find_run

    workspace = workspace_of(context)
    run_id = None if run is None else find_run(workspace, run)
    if follow:
        for event in following(workspace, run_id, limit):
            if json:
                emit_json_line(_document(event))
            else:
                _print(event, named=run_id is None)
                sys.stdout.flush()
        return
    found = newest(workspace, run_id, limit)
    if json:
        emit_json([_document(event) for event in found])
    elif not found:
        say("nothing has happened yet: start a run with `orchestra run TASK`")
    for event in [] if json else found:
        _print(event, named=run_id is None)


def _print(event: NewestEvent, *, named: bool) -> None:
    what = event.event
    when = datetime.fromtimestamp(what.time_s).strftime("%Y-%m-%d %H:%M:%S")
    who = f"  {event.name}" if named else ""
    part = "" if what.evaluation is None else f"  evaluation {what.evaluation}"
    # Most sentences begin with what they are about.
    text = what.text if what.text.startswith(what.kind) else f"{what.kind}: {what.text}"
    emit(f"{when}  {ago(what.time_s):>12}{who}{part}  {text}")


def _document(event: NewestEvent) -> dict[str, Any]:
    what = event.event
    return {
        "id": event.id,
        "run": event.run_id,
        "name": event.name,
        "time": what.time_s,
        "kind": what.kind,
        "text": what.text,
        "evaluation": what.evaluation,
    }
