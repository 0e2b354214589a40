"""orchestra eval"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.cli.output import say


def evaluate(
    context: typer.Context,
    run: options.Run,
    split: Annotated[str, typer.Option(metavar="S", help="A split that has a manifest.")],
    checkpoint: Annotated[
        str | None, typer.Option(metavar="best|last|STEP|PATH", help="Default: best.")
    ] = None,
    init_from: options.InitFrom = None,
    set_: options.Sets = None,
    cpu: options.Cpu = False,
    nproc: options.Nproc = None,
    priority: options.Priority = 0,
    after: options.After = None,
    detach: options.Detach = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a checkpoint of a run on a split, and record it.

    \b
    Examples:
      orchestra eval @last --split test-clean
      orchestra eval h7k2 --split test-other --checkpoint 20000 --cpu --nproc 4
      orchestra eval h7k2 --split test-clean --init-from k3vd   # h7k2's config
      orchestra eval h7k2 --split test-other --after h7k2   # when completed
      orchestra eval h7k2 --split dev --set data.manifests=/corpora/mine

    Same config and same code as the run, for weights from elsewhere (--init-from) too.
    The result does not depend on the number of ranks.
    """
    from orchestra.schedule.evaluate import submit_evaluation
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.submission import cpu_command, launch_values

    workspace = workspace_of(context)
    run_id = find_run(workspace, run)
    # A Ctrl-C on the way is a request to stop what has been queued by then.
    with Interrupts() as interrupts:
        key = submit_evaluation(
            workspace,
            run_id,
            split=split,
            checkpoint=checkpoint,
            init_from=init_from,
            after=after,
            priority=priority,
            given=launch_values(gpus=None, gpu_ids=None, cpu=cpu, nproc=nproc),
            sets=tuple(set_ or ()),
            cpu_command=cpu_command(sys.argv[1:]),
            tell=say,
        )
        launch(workspace, key, interrupts, detach=detach, quiet=quiet)
