"""orchestra wait"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, say
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.states import RunState


def wait(
    context: typer.Context,
    run: options.Run,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Exit 5 after so long.")
    ] = None,
) -> None:
    """Wait until a run and its evaluations have ended.
    It prints the run's state then.

    \b
    Examples:
      orchestra wait @last && echo "it has a number"
      orchestra wait h7k2 --timeout 3600

    Exits with 0 if all are completed, with 1 if one failed, was stopped or preempted.
    Of a parent run: all its members.
    A run whose supervisor died on this machine is given a new one.
    """
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.parent import find_parent, state_of
    from orchestra.schedule.watch import unfinished_evaluations, wait_for

    workspace = workspace_of(context)
    parent = find_parent(workspace, run)
    runs = [row.id for row in parent.members] if parent else [find_run(workspace, run)]
    deadline = None if timeout is None else time.monotonic() + timeout
    # Asked for first: an evaluation that ends while the run is waited for counts too.
    evaluations = [key for run_id in runs for key in unfinished_evaluations(workspace, run_id)]
    states = []
    for key in (*map(JobKey, runs), *evaluations):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        view = wait_for(workspace, key, left)
        states.append(view.state)
        if view.reason:
            say(f"{key}: {view.state.value}: {view.reason}")
    emit(state_of(states[: len(runs)]).value)
    if set(states) != {RunState.COMPLETED}:
        raise typer.Exit(ExitCode.FAILED)
