"""orchestra rm"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import can_ask, emit, say
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import ExitCode

if TYPE_CHECKING:
    from orchestra.schedule.seen import Seen


def rm(
    context: typer.Context,
    run: options.Run,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a run with its folder and all its checkpoints.
    Its registry row and its git references go too.

    Of a parent run: all its members.

    \b
    Examples:
      orchestra rm asr-wavlm-h7k2
      orchestra rm h7k2 --yes
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent
    from orchestra.schedule.remove import remove_run
    from orchestra.schedule.stake import at_stake, removal

    workspace = workspace_of(context)
    if parent := find_parent(workspace, run):
        ids = [row.id for row in parent.members]
    else:
        ids = [find_run(workspace, run)]
    seen: dict[str, Seen] = {}
    if not yes:
        stakes = [at_stake(workspace, run_id) for run_id in ids]
        seen = {run_id: stake.seen for run_id, stake in zip(ids, stakes, strict=True)}
        _ask("; ".join(map(removal, stakes)))
    for run_id in ids:
        remove_run(workspace, run_id, seen.get(run_id))
        emit(run_id)


def _ask(what: str) -> None:
    """Go on only if the user wants it deleted."""
    if not can_ask():
        raise UsageError(f"no terminal to ask at: --yes deletes {what}")
    say(f"delete {what}? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("kept")
        raise typer.Exit(ExitCode.FAILED)
