"""orchestra tui"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli.context import workspace_of


def tui(
    context: typer.Context,
    readonly: Annotated[
        bool, typer.Option("--readonly", help="Nothing can be changed from here.")
    ] = False,
) -> None:
    """Watch all runs on one screen: states, curves, logs, GPUs; stop, resume, compare them.

    \b
    Examples:
      orchestra tui
      orchestra tui --readonly

    ? lists the keys. Leaving stops no run.
    """
    from orchestra.tui.start import start_monitor

    start_monitor(workspace_of(context), readonly=readonly)
