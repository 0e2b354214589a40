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
from orchestra.cli.members import launch_members
from orchestra.cli.output import say
from orchestra.wire.errors import UsageError


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
    """Continue a run that failed, was stopped or was too short.
    A preempted one too.

    \b
    Examples:
      orchestra resume @last
      orchestra resume asr-wavlm-h7k2 --from best
      orchestra resume h7k2 --set train.max_steps=40000 --detach

    It runs the code of its snapshot, not what the workspace holds now. Checkpoints newer than
    --from are moved to checkpoints/.superseded/, not deleted. Of a parent run all members that
    ended without being completed are resumed.
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent, unfinished
    from orchestra.schedule.resume import resume as service

    workspace = workspace_of(context)
    parent = find_parent(workspace, run)
    if parent is not None and from_ is not None:
        raise UsageError(f"--from is for one run; {parent.name} is a parent run of several")
    ids = unfinished(parent) if parent else [find_run(workspace, run)]
    # A Ctrl-C on the way is a request to stop what has been queued by then.
    with Interrupts() as interrupts:
        keys = []
        for run_id in ids:
            resumed = service(
                workspace,
                run_id,
                start_from=from_,
                sets=tuple(set_ or ()),
                cpu_command=shlex.join(["orchestra", *sys.argv[1:], "--set", "launch.device=cpu"]),
                tell=say,
            )
            keys.append(resumed.key)
            for note in () if quiet else resumed.notes:
                say(f"note: {note}")
        if parent is None:
            launch(workspace, keys[0], interrupts, detach=detach, quiet=quiet)
        else:
            launch_members(workspace, parent.id, keys, interrupts, detach=detach, quiet=quiet)
