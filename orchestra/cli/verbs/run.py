"""orchestra run"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.cli.members import launch_parent, refuse_for_members
from orchestra.cli.output import emit, say
from orchestra.cli.plan import print_plan
from orchestra.cli.result import print_result
from orchestra.wire.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.submission import Submission
    from orchestra.workspace import Workspace


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
    tag: options.Tags = None,
    note: options.Note = None,
    seed: options.Seed = None,
    priority: options.Priority = 0,
    after: options.After = None,
    no_queue: Annotated[
        bool, typer.Option("--no-queue", help="Start now or not at all (exit 4).")
    ] = False,
    or_resume: Annotated[
        bool,
        typer.Option("--or-resume", help="If there is a run --name, resume or follow that one."),
    ] = False,
    detach: options.Detach = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a task: snapshot, supervise, restart, evaluate.
    The code is that of now, devices are picked.

    \b
    Examples:
      orchestra run asr --upstream wavlm --gpus 4
      orchestra run asr --preset asr-demo --cpu --nproc 2
      orchestra run asr -p asr -p debug -s optim.lr=3e-4 -s data.root=/corpora/L
      orchestra run asr --gpu-ids 2,3 --name wavlm-probe --detach
      orchestra run asr -p asr --init-from h7k2 --set 'init.parts=["upstream"]'
      orchestra run example --cpu --dry-run
      orchestra run asr -p asr --init-from first --after first --gpus 4
      orchestra run asr -p asr --name nightly --or-resume       # from cron
      id=$(orchestra run asr -q --detach) && orchestra wait "$id"

    The run goes on if this terminal is closed. Ctrl-C asks: detach, or stop. Where there is no
    terminal, Ctrl-C stops the run (it saves first), and a second one kills it.
    """
    from orchestra.schedule import submit
    from orchestra.schedule.submission import Submission, cpu_command, launch_values, seed_value
    from orchestra.schedule.submit_parent import submit_members
    from orchestra.schedule.withdraw import forget

    if or_resume and name is None:
        raise UsageError("--or-resume needs the --name by which it finds the run")
    if no_queue and after is not None:
        raise UsageError("--no-queue contradicts --after, which waits")
    workspace = workspace_of(context)
    given = launch_values(gpus=gpus, gpu_ids=gpu_ids, cpu=cpu, nproc=nproc)
    given += seed_value(seed)
    submission = Submission(
        task=task,
        presets=tuple(preset or ()),
        upstream=upstream,
        given=given,
        sets=tuple(set_ or ()),
        init_from=init_from,
        priority=priority,
        after=after,
        name=name,
        tags=tuple(tag or ()),
        remark=note or "",
        argv=("orchestra", *sys.argv[1:]),
        cpu_command=cpu_command(sys.argv[1:]),
    )
    if dry_run:
        print_plan(submit.plan(workspace, submission))
        return
    again = partial(_continue, workspace, submission, no_queue=no_queue, detach=detach, quiet=quiet)
    if or_resume and again():
        return
    with ExitStack() as stack:
        try:
            with submit.staged(workspace, submission, say) as staged:
                if members := len(staged.plan.members):
                    refuse_for_members(members, or_resume=or_resume, no_queue=no_queue)
                # From the commit on there is a run: Ctrl-C is then a question about it.
                interrupts = stack.enter_context(Interrupts())
                if members:
                    parent = submit_members(workspace, submission, staged.plan, say)
                else:
                    submitted = staged.commit()
        except ConflictError:  # the same command, given at the same moment, may have been faster
            if or_resume and again():
                return
            raise
        if members:
            launch_parent(workspace, parent, interrupts, detach=detach, quiet=quiet)
            return
        for note in () if quiet else submitted.notes:
            say(f"note: {note}")
        made = f"run {submitted.run_id} ({submitted.name}) in {submitted.folder.path}"
        start = partial(launch, workspace, submitted.key, interrupts, detach=detach, quiet=quiet)
        if no_queue:
            start(withdraw=forget, once_started=made)
            return
        if not quiet:
            say(made)
        start()


def _continue(
    workspace: Workspace, submission: Submission, *, no_queue: bool, detach: bool, quiet: bool
) -> bool:
    """Resume or follow the run that the same command made before; False if there is none."""
    from orchestra.schedule.again import again
    from orchestra.schedule.withdraw import end_again
    from orchestra.wire.states import ENDED, RunState

    assert submission.name is not None
    with Interrupts() as interrupts:
        found = again(
            workspace, submission.name, submission.argv, cpu_command=submission.cpu_command
        )
        if found is None:
            return False
        for note in () if quiet else found.notes:
            say(f"note: {note}")
        if found.state is RunState.COMPLETED:
            _print_completed(workspace, found.key, quiet=quiet)
        else:
            resumed = found.state in ENDED  # else it stays queued: another command queued it
            withdraw = end_again if no_queue and resumed else None
            launch(workspace, found.key, interrupts, detach=detach, quiet=quiet, withdraw=withdraw)
    return True


def _print_completed(workspace: Workspace, key: JobKey, *, quiet: bool) -> None:
    from orchestra.registry.store import open_registry
    from orchestra.schedule.watch import look

    if quiet:
        emit(key.run_id)
        return
    with open_registry(workspace.runs) as registry:
        view = look(registry, key)
    print_result(workspace, view, since_s=0.0)
