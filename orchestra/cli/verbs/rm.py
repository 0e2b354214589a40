"""orchestra rm"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import can_ask, emit, say
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import ExitCode


def rm(
    context: typer.Context,
    run: options.Run,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a run: its folder with all checkpoints, its registry row, its git references.

    \b
    Examples:
      orchestra rm asr-wavlm-h7k2
      orchestra rm h7k2 --yes
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.remove import remove_run
    from orchestra.schedule.stake import at_stake, removal

    workspace = workspace_of(context)
    run_id = find_run(workspace, run)
    seen = None
    if not yes:
        stake = at_stake(workspace, run_id)
        seen, what = stake.seen, removal(stake)
        if not can_ask():
            raise UsageError(f"no terminal to ask at: --yes deletes {what}")
        say(f"delete {what}? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("kept")
            raise typer.Exit(ExitCode.FAILED)
    remove_run(workspace, run_id, seen)
    emit(run_id)
