"""orchestra up"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, say


def up(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Go on with all unfinished work, as after a reboot.
    After a crash and a preemption, too.

    \b
    Examples:
      orchestra up
      orchestra up --dry-run

    Queued jobs, jobs whose supervisor died and preempted ones go on. What was stopped stays
    stopped, and jobs of other machines are left alone. Calling it again does nothing more.
    `orchestra service install` calls it at boot.
    """
    from orchestra.schedule.up import up as service

    deeds = service(workspace_of(context), dry_run=dry_run)
    for deed in deeds:
        emit(f"{deed.key}: {deed.sentence}")
    if not deeds:
        say("nothing is unfinished here")
