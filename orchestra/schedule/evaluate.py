"""A new evaluation of a run: one checkpoint on one split, with a supervisor of its own."""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from orchestra.config.compose import Composed, override
from orchestra.provenance.environment import record_environment
from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.asked import note_asked
from orchestra.schedule.changes import check_evaluation
from orchestra.schedule.checkpoints import find, recorded, steps
from orchestra.schedule.deferred import queue_entry
from orchestra.schedule.initial import find_weights
from orchestra.schedule.preflight import preflight
from orchestra.schedule.staging import building
from orchestra.schedule.submission import Given, demand_of, flags
from orchestra.schedule.upstreams import fetch_missing
from orchestra.supervise.launch import code_folder
from orchestra.wire import weights
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.files import write_atomic, write_json
from orchestra.wire.folders import EvaluationFolder, RunFolder
from orchestra.wire.job import EvaluationSpec, JobState
from orchestra.wire.manifest import splits_in
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace


def submit_evaluation(
    workspace: Workspace,
    run_id: str,
    *,
    split: str,
    checkpoint: str | None,
    init_from: str | None = None,
    after: str | None = None,
    priority: int = 0,
    given: tuple[Given, ...] = (),
    sets: tuple[str, ...] = (),
    cpu_command: str,
    tell: Callable[[str], None] = lambda sentence: None,
) -> JobKey:
    """Queue it; the config is the run's, with `given` and `sets` applied.

    Args:
        tell: takes what is said while an upstream that is gone from the cache is fetched again.
        checkpoint: one of the run's own (see schedule.checkpoints.find); default: the best.
        init_from: weights from elsewhere instead (see schedule.initial.find_weights).
        after: the run that must be completed first; it may be this very run.

    Raises:
        NotFoundError: no such checkpoint, or no manifest of that split.
        BadCheckpointError: the weights from elsewhere are damaged.
        ConfigErrors, ConflictError: as `orchestra run`.
    """
    run = workspace.runs.run(run_id)
    with open_registry(workspace.runs) as registry, building(workspace.runs):
        registry.get_run(run_id)
        entry = queue_entry(workspace, priority=priority, after=after, init_from=init_from)
        spec = _spec(workspace, run, split, checkpoint, init_from, entry)
        code = code_folder(workspace.runs, run.job)
        composed = override(
            run.job.config,
            code,
            sets,
            flags=flags(given),
            workspace=workspace.root,
            training=False,
        )
        check_evaluation(composed)
        found = preflight(
            composed.config,
            workspace.runs,
            cpu_command=cpu_command,
            splits=(split,),
            root=workspace.root,
            code=code,
        )
        fetch_missing(run, composed.config.upstream, found, tell)
        folder = _new_folder(run)
        key = JobKey(run_id, folder.number)
        try:
            _write(folder, composed, spec, entry)
            demand = demand_of(composed.config.launch, entry)
            registry.create_evaluation(run_id, folder.number, split, spec.checkpoint, demand=demand)
            note_asked(registry, key, f"evaluation {folder.number} of {split}")
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
    return key


def splits_of(run: RunFolder) -> list[str]:
    """The splits that have a manifest where the run's data is; none where that can't be told."""
    try:
        folder = tomllib.loads(run.job.config.read_text(encoding="utf-8"))["data"]["manifests"]
        return splits_in(Path(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _spec(
    workspace: Workspace,
    run: RunFolder,
    split: str,
    checkpoint: str | None,
    init_from: str | None,
    entry: QueueEntry,
) -> EvaluationSpec:
    if init_from is None:
        checkpoint = checkpoint or "best"
        if entry.after == run.id and checkpoint in ("best", "last"):
            return EvaluationSpec(split, checkpoint, time.time())  # the ranks find out which it is
        return EvaluationSpec(split, _require_checkpoint(run, checkpoint), time.time())
    if checkpoint is not None:
        raise UsageError("--init-from contradicts --checkpoint: RUN:STEP names another run's")
    if entry.init_from:
        return EvaluationSpec(split, entry.init_from, time.time(), source=init_from)
    folder = find_weights(workspace, init_from)
    return EvaluationSpec(
        split,
        recorded(run, folder),
        time.time(),
        source=init_from,
        sha256=weights.verify(folder).sha256,
    )


def _require_checkpoint(run: RunFolder, checkpoint: str) -> str:
    """`checkpoint` as the record and the ranks shall have it; they find out what best is."""
    if checkpoint in ("best", "last"):
        if not steps(run):
            raise NotFoundError(
                f"run {run.id} has no checkpoint yet: --after {run.id} waits until it is completed"
            )
        return checkpoint
    return recorded(run, find(run, checkpoint))


def _new_folder(run: RunFolder) -> EvaluationFolder:
    """The next free number; mkdir decides between two who want it."""
    number = max((folder.number for folder in run.all_evaluations()), default=0)
    while True:
        number += 1
        folder = run.evaluation(number)
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise OrchestraError(f"cannot make {folder.path}: {error.strerror}") from error
        return folder


def _write(
    folder: EvaluationFolder, composed: Composed, spec: EvaluationSpec, entry: QueueEntry
) -> None:
    """All files of the evaluation; state.json, by which it is a job, comes last."""
    write_atomic(folder.job.config, composed.toml)
    write_json(folder.job.origins, composed.origins)
    record_environment(folder.job)
    spec.write(folder)
    if entry != QueueEntry():
        entry.write(folder.job)
    JobState(RunState.QUEUED, "", attempt=0, updated_at=spec.created_at).write(folder.job)
