"""orchestra clone"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.cli.output import say
from orchestra.cli.plan import print_plan


def clone(
    context: typer.Context,
    run: options.Run,
    set_: options.Sets = None,
    upstream: options.Upstream = None,
    gpus: options.Gpus = None,
    gpu_ids: options.GpuIds = None,
    cpu: options.Cpu = False,
    nproc: options.Nproc = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Default: that of RUN.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: TASK-UPSTREAM-ID.")
    ] = None,
    tag: options.Tags = None,
    note: options.Note = None,
    priority: options.Priority = 0,
    after: options.After = None,
    detach: options.Detach = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Start a new run with another one's config and today's code.

    \b
    Examples:
      orchestra clone h7k2
      orchestra clone h7k2 --set optim.lr=3e-4 --name lower-lr
      orchestra clone h7k2 --seed 2 --tag seeds --detach
      orchestra clone h7k2 --upstream hubert --gpus 2
      orchestra clone h7k2 --set train.max_steps=100 --dry-run

    Presets and defaults that have changed since RUN was made change nothing. It starts at step 0
    from RUN's initial weights; to go on from a checkpoint, `resume` RUN, or `run --init-from RUN`.
    """
    from orchestra.schedule import submit
    from orchestra.schedule.clone import clone_submission
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.submission import cpu_command, launch_values, seed_value

    workspace = workspace_of(context)
    given = launch_values(gpus=gpus, gpu_ids=gpu_ids, cpu=cpu, nproc=nproc)
    submission = clone_submission(
        workspace,
        find_run(workspace, run),
        upstream=upstream,
        given=(*given, *seed_value(seed)),
        sets=tuple(set_ or ()),
        name=name,
        tags=tuple(tag or ()),
        remark=note or "",
        priority=priority,
        after=after,
        argv=("orchestra", *sys.argv[1:]),
        cpu_command=cpu_command(sys.argv[1:]),
    )
    if dry_run:
        print_plan(submit.plan(workspace, submission))
        return
    with ExitStack() as stack:
        with submit.staged(workspace, submission, say) as staged:
            # From the commit on there is a run: Ctrl-C is then a question about it.
            interrupts = stack.enter_context(Interrupts())
            submitted = staged.commit()
        if not quiet:
            for text in submitted.notes:
                say(f"note: {text}")
            say(f"run {submitted.run_id} ({submitted.name}) in {submitted.folder.path}")
        launch(workspace, submitted.key, interrupts, detach=detach, quiet=quiet)
