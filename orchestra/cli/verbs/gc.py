"""orchestra gc"""

from __future__ import annotations

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say


def gc(context: typer.Context, json: options.Json = False) -> None:
    """Remove code snapshots and git references that no run needs, and leftovers of crashes.

    \b
    Examples:
      orchestra gc
      orchestra gc --json

    Runs are never touched: `orchestra rm` deletes those.
    """
    from orchestra.schedule.remove import collect

    garbage = collect(workspace_of(context))
    for note in garbage.notes:
        say(f"note: {note}")
    if json:
        emit_json({"folders": [str(path) for path in garbage.folders], "refs": list(garbage.refs)})
        return
    for path in garbage.folders:
        emit(str(path))
    say(f"{len(garbage.folders)} folders and {len(garbage.refs)} git references removed")
