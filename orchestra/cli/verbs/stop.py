"""orchestra stop"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, say


def stop(
    context: typer.Context,
    run: options.Run,
    now: Annotated[bool, typer.Option("--now", help="Kill it: no last checkpoint.")] = False,
) -> None:
    """Stop a run: it saves a checkpoint and ends.
    After launch.grace_s seconds it is killed.

    \b
    Examples:
      orchestra stop @last
      orchestra stop h7k2 --now

    If the run itself has ended, its evaluations that still go on are stopped. Of a parent run all
    members that have not ended are.
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent, stop_members
    from orchestra.schedule.stop import stop_run
    from orchestra.schedule.watch import watch

    workspace = workspace_of(context)
    parent = find_parent(workspace, run)
    if parent is None:
        asked = stop_run(workspace, find_run(workspace, run), now=now)
    else:
        asked = stop_members(workspace, parent, now=now)
    for key in asked:
        for number, view in enumerate(watch(workspace, key)):
            if number == 0 and not view.ended:  # what only waited has ended by now
                say(f"stopping {key}" + (" now" if now else ": it saves and ends"))
        emit(f"{key} {view.state.value}" + (f": {view.reason}" if view.reason else ""))
