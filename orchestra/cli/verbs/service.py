"""orchestra service install, orchestra service uninstall"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, say

if TYPE_CHECKING:
    from orchestra.schedule.service import Done

HELP = """Go on with unfinished runs after a reboot, through systemd.

\b
Examples:
  orchestra service install
  orchestra service uninstall
"""


def install(
    context: typer.Context,
    print_: Annotated[bool, typer.Option("--print", help="Show the unit, write nothing.")] = False,
) -> None:
    """Write and enable a systemd user unit that calls `up` at boot.

    \b
    Examples:
      orchestra service install
      orchestra service install --print

    Prints the unit's path. Stopping the unit stops no run.
    """
    from orchestra.schedule import service

    workspace = workspace_of(context)
    if print_:
        emit(service.unit_text(workspace).rstrip())
        return
    _tell(service.install(workspace))


def uninstall(context: typer.Context) -> None:
    """Disable and remove this workspace's unit; runs go on.

    \b
    Examples:
      orchestra service uninstall
    """
    from orchestra.schedule import service

    _tell(service.uninstall(workspace_of(context)))


def _tell(done: Done) -> None:
    for note in done.notes:
        say(f"note: {note}")
    emit(str(done.unit))


VERBS = {"install": install, "uninstall": uninstall}
