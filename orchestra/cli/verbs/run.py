"""orchestra run"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.cli.output import emit, say, table

if TYPE_CHECKING:
    from orchestra.schedule.submit import Plan


def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="See `orchestra tasks`.")],
    upstream: options.Upstream = None,
    preset: options.Presets = None,
    set_: options.Sets = None,
    init_from: options.InitFrom = None,
    gpus: options.Gpus = None,
    gpu_ids: options.GpuIds = None,
    cpu: options.Cpu = False,
    nproc: options.Nproc = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: TASK-UPSTREAM-ID.")
    ] = None,
    seed: options.Seed = None,
    detach: options.Detach = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a task: snapshot the code, pick devices, supervise, restart, evaluate.

    \b
    Examples:
      orchestra run asr --upstream wavlm --gpus 4
      orchestra run asr --preset asr-demo --cpu --nproc 2
      orchestra run asr -p asr -p debug --set optim.lr=3e-4 --set data.root=/corpora/LibriSpeech
      orchestra run asr --gpu-ids 2,3 --name wavlm-probe --detach
      orchestra run asr -p asr --init-from h7k2 --set 'init.parts=["upstream"]'
      orchestra run example --cpu --dry-run
      id=$(orchestra run asr -q --detach) && orchestra wait "$id"

    The run goes on if this terminal is closed. Ctrl-C asks: detach, or stop. Where there is no
    terminal, Ctrl-C stops the run (it saves first), and a second one kills it.
    """
    from orchestra.schedule import submit
    from orchestra.schedule.submission import Submission

    workspace = workspace_of(context)
    given = options.launch_values(gpus=gpus, gpu_ids=gpu_ids, cpu=cpu, nproc=nproc)
    given += options.seed_value(seed)
    submission = Submission(
        task=task,
        presets=tuple(preset or ()),
        upstream=upstream,
        given=given,
        sets=tuple(set_ or ()),
        init_from=init_from,
        name=name,
        argv=("orchestra", *sys.argv[1:]),
        cpu_command=options.cpu_command(sys.argv[1:]),
    )
    if dry_run:
        _print_plan(submit.plan(workspace, submission))
        return
    with ExitStack() as stack:
        with submit.staged(workspace, submission) as staged:
            # From the commit on there is a run: Ctrl-C is then a question about it.
            interrupts = stack.enter_context(Interrupts())
            submitted = staged.commit()
        if not quiet:
            for note in submitted.notes:
                say(f"note: {note}")
            say(f"run {submitted.run_id} ({submitted.name}) in {submitted.folder.path}")
        launch(workspace, submitted.key, interrupts, detach=detach, quiet=quiet)


def _print_plan(plan: Plan) -> None:
    config = plan.composed.config
    launch = config.launch
    where = f"{launch.device}, {launch.nproc} rank{'s' if launch.nproc > 1 else ''}"
    for note in plan.composed.notes:
        say(f"note: {note}")
    rows = [
        ("task", f"{config.task.kind} ({plan.composed.task.folder})"),
        ("device", where),
        ("ends", ", ".join(f"{key} = {limit}" for key, limit in config.train.limits().items())),
        ("step", f"{config.batch.seconds:g} s in {config.batch.micro_batches} micro-batches"),
        ("seed", str(config.seed)),
        *((finding.what, finding.detail) for finding in plan.findings),
        ("config", f"sha256 {plan.composed.sha256}"),
    ]
    table([{"what": what, "plan": detail} for what, detail in rows])
    emit()
    emit("Nothing was started (--dry-run).")
