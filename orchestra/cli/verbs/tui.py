"""orchestra tui"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli.context import workspace_of
from orchestra.cli.output import say
from orchestra.wire.errors import UsageError


def tui(
    context: typer.Context,
    readonly: Annotated[
        bool, typer.Option("--readonly", help="Nothing can be changed from here.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="In a browser of this machine, read-only.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="N", help="Of --web; default: any.")
    ] = None,
) -> None:
    """Watch all runs on one screen, and act on them.
    States, curves, logs, GPUs; stop, resume, compare.

    \b
    Examples:
      orchestra tui
      orchestra tui --readonly
      orchestra tui --web --port 8000   # then: ssh -L 8000:127.0.0.1:8000 BOX

    ? lists the keys. Leaving stops no run. --web listens on 127.0.0.1 alone and prints a URL that
    opens it for one browser, once.
    """
    workspace = workspace_of(context)
    if web:
        from orchestra.tui.web.server import serve_monitor

        serve_monitor(workspace, port or 0, say)
    elif port is not None:
        raise UsageError("--port is of --web: `orchestra tui --web --port N`")
    else:
        from orchestra.tui.start import start_monitor

        start_monitor(workspace, readonly=readonly)
