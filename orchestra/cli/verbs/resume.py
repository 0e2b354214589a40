"""orchestra resume"""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.cli.output import say


def resume(
    context: typer.Context,
    run: options.Run,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STEP|best|last", help="Default: the newest good checkpoint."
        ),
    ] = None,
    set_: options.Sets = None,
    detach: options.Detach = False,
    quiet: options.Quiet = False,
) -> None:
    """Continue a run that failed, was stopped or preempted, or completed too few steps.

    \b
    Examples:
      orchestra resume @last
      orchestra resume asr-wavlm-h7k2 --from best
      orchestra resume h7k2 --set train.max_steps=40000 --detach

    It runs the code of its snapshot, not what the workspace holds now. Checkpoints newer than
    --from are moved to checkpoints/.superseded/, not deleted.
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.resume import resume as service

    workspace = workspace_of(context)
    run_id = find_run(workspace, run)
    # A Ctrl-C on the way is a request to stop what has been queued by then.
    with Interrupts() as interrupts:
        resumed = service(
            workspace,
            run_id,
            start_from=from_,
            sets=tuple(set_ or ()),
            cpu_command=shlex.join(["orchestra", *sys.argv[1:], "--set", "launch.device=cpu"]),
        )
        if not quiet:
            for note in resumed.notes:
                say(f"note: {note}")
        launch(workspace, resumed.key, interrupts, detach=detach, quiet=quiet)
