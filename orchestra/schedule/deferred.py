"""A job that waits for another run (`--after`), and weights that this run has yet to make.

What is known when the job is asked for goes into its queue.json; `complete` adds the rest when
that run is completed, before the job starts.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from orchestra.config.compose import override
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.checkpoints import recorded
from orchestra.schedule.frozen import refreeze
from orchestra.schedule.initial import (
    FLAG,
    check_initial,
    copy_initial,
    find_weights,
    initial_values,
    split_run,
)
from orchestra.schedule.listing import find_run
from orchestra.schedule.submission import Given, flags
from orchestra.supervise.launch import code_folder
from orchestra.wire import weights
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import EvaluationFolder, Job, RunFolder
from orchestra.wire.job import EvaluationSpec
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace


def queue_entry(
    workspace: Workspace, *, priority: int, after: str | None, init_from: str | None
) -> QueueEntry:
    """The job's queue.json. Its `init_from` is set if the weights of --init-from are yet to come.

    Raises:
        NotFoundError: no such run to wait for.
        UsageError: weights of a run that is not done can only be its best, its last or a step's.
    """
    if after is None:
        return QueueEntry(priority)
    run_id = find_run(workspace, after)
    with open_registry(workspace.runs) as registry:
        done = registry.get_run(run_id).state == RunState.COMPLETED
    named = None if done or init_from is None else _checkpoint_of(workspace, init_from, run_id)
    return QueueEntry(priority, run_id, "" if named is None else f"{run_id}:{named}")


def placeholders(workspace: Workspace, entry: QueueEntry) -> tuple[Given, ...]:
    """The `init` table until the weights are there: what else it holds is checked before."""
    folder = workspace.runs.run(entry.after).checkpoints
    values = {"source": entry.init_from, "folder": str(folder), "sha256": ""}
    return tuple(Given(f"init.{key}", value, FLAG) for key, value in values.items())


def complete(workspace: Workspace, job: Job, entry: QueueEntry, registry: Registry) -> None:
    """Give the job the weights that it was promised. Call it with the job's lock held.

    Raises:
        OrchestraError: they are not there, are damaged, don't fit or can't be copied; the message
            begins with what was promised.
    """
    try:
        if job.kind == "train":
            _complete_run(workspace, job.run, entry, registry)
        else:
            _complete_evaluation(workspace, EvaluationFolder(job.folder), entry)
    except OrchestraError as error:
        raise OrchestraError(f"{FLAG} {entry.init_from}: {error}") from error
    replace(entry, init_from="").write(job)


def _complete_run(
    workspace: Workspace, run: RunFolder, entry: QueueEntry, registry: Registry
) -> None:
    composed = override(
        run.job.config,
        code_folder(workspace.runs, run.job),
        (),
        flags=flags(initial_values(workspace, entry.init_from)),
        workspace=workspace.root,
    )
    init = composed.config.init
    assert init is not None
    check_initial(init)
    # A dispatcher may have died in this: never write through its links into the checkpoint.
    shutil.rmtree(run.init, ignore_errors=True)
    copy_initial(init, run.init)
    refreeze(run, registry, composed)


def _complete_evaluation(workspace: Workspace, folder: EvaluationFolder, entry: QueueEntry) -> None:
    found = find_weights(workspace, entry.init_from)
    spec = EvaluationSpec.read(folder)
    checkpoint = recorded(folder.job.run, found)
    replace(spec, checkpoint=checkpoint, sha256=weights.verify(found).sha256).write(folder)


def _checkpoint_of(workspace: Workspace, wanted: str, run_id: str) -> str | None:
    """The checkpoint that `wanted` means of the run; None if it means something else."""
    reference, checkpoint = split_run(wanted)
    try:
        if reference is None or find_run(workspace, reference) != run_id:
            return None
    except NotFoundError:
        return None  # a folder, perhaps
    checkpoint = checkpoint or "best"
    if checkpoint not in ("best", "last") and not checkpoint.isdecimal():
        raise UsageError(f"{FLAG} {wanted}: run {run_id} is not done: give best, last or a step")
    return checkpoint
