"""Continuing a run that has ended, from its newest checkpoint or an older one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestra.config.compose import Composed, override
from orchestra.provenance.environment import record_environment
from orchestra.registry.rows import JobKey, RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.asked import note_asked
from orchestra.schedule.changes import check_resume
from orchestra.schedule.checkpoints import find, set_aside_newer, steps
from orchestra.schedule.frozen import refreeze
from orchestra.schedule.preflight import preflight
from orchestra.schedule.seen import Seen, check_seen
from orchestra.schedule.staging import building
from orchestra.schedule.submission import demand_of
from orchestra.schedule.upstreams import fetch_missing
from orchestra.schedule.watch import abandoned
from orchestra.supervise.launch import code_folder
from orchestra.supervise.lock import FileLock
from orchestra.wire.checkpoints import recover, step_of
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.job import JobState
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace

#: Beginnings of the keys that can end a run.
_LIMITS = ("train.max_", "train.stopping")

#: A supervisor that has told the run's end goes within a moment.
_GOODBYE_S = 10.0


@dataclass(frozen=True)
class Resumed:
    """What was done. `notes` are sentences to say aloud."""

    key: JobKey
    notes: tuple[str, ...]


def resume(
    workspace: Workspace,
    run_id: str,
    *,
    start_from: str | None,
    sets: tuple[str, ...],
    cpu_command: str,
    seen: Seen | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Resumed:
    """Queue the run again. A live run whose supervisor died only needs `dispatch`.

    `start_from`: a step, "best", "last", or None for the newest good checkpoint; `tell` takes what
    is said while an upstream that is gone from the cache is fetched again.

    Raises:
        ConflictError: it is at work, queued, on another machine, or completed with nothing to do;
            or the run was removed whose weights it was to start from; or it is not as `seen` any
            more.
        NotFoundError: no such checkpoint.
        UsageError: `start_from` is none of these; ConfigErrors: `sets` don't fit, or change what
            the checkpoints are.
    """
    _check_start(start_from)
    with open_registry(workspace.runs) as registry, building(workspace.runs):
        check_seen(workspace, registry, seen)
        row = registry.get_run(run_id)
        run = workspace.runs.run(run_id)
        if row.state in LIVE and abandoned(workspace, JobKey(run_id)):
            _refuse_changes(start_from, sets, run_id)
            return Resumed(JobKey(run_id), ("its supervisor had died; it gets a new one",))
        _require_ended(row)
        lock = FileLock.acquire(run.job.lock, _GOODBYE_S)
        if lock is None:
            raise ConflictError(
                f"run {run_id} has ended, but its supervisor is still there; try again in a moment"
            )
        with lock:
            entry, notes = _entry(run, registry)
            _recover(run)
            composed, step = _compose(workspace, row, start_from, sets)
            found = preflight(
                composed.config,
                workspace.runs,
                cpu_command=cpu_command,
                root=workspace.root,
                code=code_folder(workspace.runs, run.job),
            )
            fetch_missing(run, composed.config.upstream, found, tell)
            notes += _rewind(run, registry, step)
            notes += refreeze(run, registry, composed)
            _show_progress(registry, run.id, step, composed)
            _queue(run, registry, composed, entry)
            note_asked(registry, JobKey(run_id), f"resume from step {step}")
    return Resumed(JobKey(run_id), tuple(notes))


@dataclass(frozen=True)
class Preview:
    """What `resume` would do: from which step, with which keys changed."""

    step: int
    aside: tuple[int, ...]
    """Checkpoints that would be moved aside."""
    changed: tuple[str, ...]


def preview(
    workspace: Workspace, run_id: str, *, start_from: str | None, sets: tuple[str, ...]
) -> Preview:
    """As far as it can be told without touching anything (errors as `resume`)."""
    _check_start(start_from)
    run = workspace.runs.run(run_id)
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run_id)
        _require_ended(row)
        composed, step = _compose(workspace, row, start_from, sets)
    aside = tuple(number for number in steps(run) if number > step)
    return Preview(step, aside if step else (), composed.changed)


def _check_start(start_from: str | None) -> None:
    if not (start_from is None or start_from in ("best", "last") or start_from.isdecimal()):
        raise UsageError(f"--from {start_from!r}: give a step of this run, best or last")


def _compose(
    workspace: Workspace, row: RunRow, start_from: str | None, sets: tuple[str, ...]
) -> tuple[Composed, int]:
    """The config it goes on with, and from which step."""
    run = workspace.runs.run(row.id)
    code = code_folder(workspace.runs, run.job)
    composed = override(run.job.config, code, sets, workspace=workspace.root)
    step = _first_step(run, start_from)
    check_resume(composed, step)
    _require_work(row, composed, step, start_from)
    return composed, step


def _refuse_changes(start_from: str | None, sets: tuple[str, ...], run_id: str) -> None:
    if start_from or sets:
        raise ConflictError(
            f"run {run_id} is not stopped: `orchestra stop {run_id}` first, then change it"
        )


def _require_ended(row: RunRow) -> None:
    if row.state in LIVE:
        raise ConflictError(f"run {row.id} is {row.state.value} on host {row.host}")
    if row.state == RunState.QUEUED:
        raise ConflictError(
            f"run {row.id} is queued already: `orchestra wait {row.id}` starts it when it can; "
            f"to change it, `orchestra stop {row.id}` first"
        )


def _entry(run: RunFolder, registry: Registry) -> tuple[QueueEntry, list[str]]:
    """Its place in the queue, and what is to be said about it (ConflictError: it can't start)."""
    entry = QueueEntry.read(run.job)
    if not entry.after or registry.knows(entry.after):
        return entry, []
    if entry.init_from:
        raise ConflictError(
            f"run {run.id} was to start from {entry.init_from}, and run {entry.after} was removed: "
            "`orchestra run` a new one with other weights"
        )
    note = f"run {entry.after} was removed; it starts without waiting"
    return replace(entry, after=""), [note]


def _recover(run: RunFolder) -> None:
    """A checkpoint that a kill left without its name must count before any is chosen."""
    try:
        recover(run.checkpoints)
    except OSError as error:
        raise OrchestraError(
            f"cannot rename or remove what a killed save left in {run.checkpoints}: "
            f"{error.strerror}"
        ) from error


def _first_step(run: RunFolder, start_from: str | None) -> int:
    """The step of the wanted checkpoint (NotFoundError); 0 if there is none yet."""
    if start_from is None or start_from == "last":
        return max(steps(run), default=0)
    return step_of(find(run, start_from))


def _require_work(row: RunRow, composed: Composed, step: int, start_from: str | None) -> None:
    """A run that did not complete may still have its test splits to evaluate."""
    if row.state != RunState.COMPLETED:
        return
    train = composed.config.train
    longer = any(key.startswith(_LIMITS) for key in composed.changed)
    if (longer or start_from is not None) and (train.max_steps is None or step < train.max_steps):
        return
    limits = train.limits()
    why = row.reason or " and ".join(f"{key} = {value}" for key, value in limits.items())
    ended_by = next((key for key in limits if key in row.reason), next(iter(limits)))
    raise ConflictError(
        f"run {row.id} is completed at step {step} ({why}); to train on: "
        f"`orchestra resume {row.id} --set {ended_by}=N`"
    )


def _rewind(run: RunFolder, registry: Registry, step: int) -> list[str]:
    """Make the checkpoint of `step` the newest."""
    if not step:
        return ["starts at step 0: no checkpoint"]
    aside = set_aside_newer(run, registry, step)
    if not aside:
        return [f"the newest checkpoint is of step {step}"]  # the ranks find out whether it is good
    kept = f"from step {step}; checkpoints {', '.join(map(str, aside))} moved aside"
    registry.add_event(run.id, "resume", kept)
    return [f"continues {kept}"]


def _show_progress(registry: Registry, run_id: str, step: int, composed: Composed) -> None:
    """Until the ranks tell theirs: what the attempt before told is of another stretch."""
    values = {"max_steps": composed.config.train.max_steps, "loss": None}
    registry.progress(run_id, step, {**values, "audio_s_per_s": None, "eta_s": None})


def _queue(run: RunFolder, registry: Registry, composed: Composed, entry: QueueEntry) -> None:
    """Ended -> queued, in the folder and in the registry; an old stop flag goes."""
    run.job.stop.unlink(missing_ok=True)
    record_environment(run.job)
    attempt = JobState.read(run.job).attempt
    if entry != QueueEntry.read(run.job):
        entry.write(run.job)
    registry.change_demand(JobKey(run.id), demand_of(composed.config.launch, entry))
    JobState(RunState.QUEUED, "", attempt, time.time()).write(run.job)
    if not registry.transition(JobKey(run.id), ENDED, RunState.QUEUED):
        raise ConflictError(f"run {run.id} was changed by another command; look at it again")
