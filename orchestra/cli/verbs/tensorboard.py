"""orchestra tensorboard"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli.context import workspace_of
from orchestra.cli.output import say
from orchestra.wire.exit_codes import ExitCode

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def tensorboard(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Default: those that live, else the newest."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Default: 6006 or one near it; 0: any."),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where it listens; default: this machine alone.")
    ] = "localhost",
) -> None:
    """Start TensorBoard on some runs, until Ctrl-C.
    It leaves nothing.

    Each attempt is a run of its own in it, named NAME/attempt-N. It prints its address.

    \b
    Examples:
      orchestra tensorboard
      orchestra tensorboard @last first --port 7007
      ssh -L 6006:localhost:6006 box        # to look at it from elsewhere
    """
    from orchestra.schedule.tensorboard import runs_meant, serve

    workspace = workspace_of(context)
    meant = runs_meant(workspace, runs or [])
    say(f"TensorBoard on {', '.join(run.name for run in meant)}; it takes a few seconds to start")
    if host not in _LOOPBACK:
        say(
            f"warning: whoever reaches {host} can read these runs; TensorBoard asks for no password"
        )
    if serve(workspace, meant, host=host, port=port) != 0:
        raise typer.Exit(ExitCode.FAILED)
