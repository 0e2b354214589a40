"""Making the registry again from the run folders, which are the truth; all of it, or what is new.

Reads run.json, labels.json, state.json, queue.json, config.toml, provenance.json, attempts,
records, checkpoints and evaluations; changes no run folder. What can't be read is named and left
out.
"""

from __future__ import annotations

import fcntl
import hashlib
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestra.registry.configs import config_document
from orchestra.registry.database import Database
from orchestra.registry.rows import Demand, JobKey, NewRun, RunRow, gpus_of
from orchestra.registry.store import Registry
from orchestra.registry.summary import records_of, summary
from orchestra.wire.checkpoints import MANIFEST, best_first, manifests
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError
from orchestra.wire.files import read_json, sync_folder
from orchestra.wire.folders import EvaluationFolder, Job, RunFolder, RunsFolder
from orchestra.wire.job import Attempt, EvaluationSpec, JobState
from orchestra.wire.labels import Labels
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import ENDED, AttemptState, RunState


def rebuild(runs: RunsFolder, path: Path) -> tuple[str, ...]:
    """Make the registry file at `path`, unless another process just did; sentences to say aloud.

    Raises:
        OrchestraError: it can't be written.
    """
    try:
        _hide_from_git(runs.path)
        with _alone(path):
            if path.is_file() and path.stat().st_size > 0:
                return ()
            return _build(runs, path)
    except OSError as error:
        raise OrchestraError(f"cannot make {path}: {error.strerror}") from error


def adopt(runs: RunsFolder, registry: Registry) -> tuple[str, ...]:
    """Take over what other machines did; sentences about folders that can't be read.

    On a network file system each machine has its own registry of the same run folders.
    """
    known = {row.id: row for row in registry.list_runs()}
    with registry.bulk():
        _, notes = add_unknown(runs, registry)
        for row in known.values():
            run = runs.run(row.id)
            if not run.identity.is_file():
                registry.delete_run(row.id)
                continue
            _adopt_labels(registry, run, row, notes)
            if row.state not in ENDED and (state := _state_elsewhere(run.job)):
                ended_at = state.updated_at if state.state in ENDED else None
                started_at = row.started_at or state.updated_at
                registry.restore(JobKey(row.id), state, started_at, ended_at)
                _add_records(registry, run)
    return tuple(notes)


def add_unknown(runs: RunsFolder, registry: Registry) -> tuple[list[str], list[str]]:
    """Take over run folders without a row: their ids, and sentences about what can't be read."""
    notes: list[str] = []
    known = {row.id for row in registry.list_runs()}
    with registry.bulk():
        added = [
            run.id
            for run, identity in _run_folders(runs, notes, skip=known)
            if _try_to_add(registry, run, identity, notes)
        ]
    return added, notes


def _build(runs: RunsFolder, path: Path) -> tuple[str, ...]:
    # Here, as `adopt` is on the way of `orchestra ls` and sqlite-utils is slow to load.
    from orchestra.registry.migrations import create

    temporary = path.with_name(f".{path.name}.new")
    _remove(temporary)
    create(temporary)
    with Registry(Database(temporary)) as registry:
        added, notes = add_unknown(runs, registry)
    # A log left by an earlier file of this name would be replayed into the new one.
    _remove(path)
    temporary.replace(path)
    sync_folder(path.parent)
    if added:
        plural = "s" if len(added) != 1 else ""
        notes.insert(0, f"rebuilt {path} from {len(added)} run folder{plural}")
    return tuple(notes)


def _run_folders(
    runs: RunsFolder, notes: list[str], skip: Collection[str]
) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Run folders and their run.json, oldest first."""
    found = []
    for entry in runs.path.iterdir():
        run = RunFolder(entry)
        if entry.name.startswith(".") or run.id in skip or not run.identity.is_file():
            continue
        try:
            identity = read_json(run.identity)
            found.append((float(identity["created_at"]), run.id, run, identity))
        except (OrchestraError, KeyError, TypeError, ValueError) as error:
            notes.append(f"{run.path} is not in the registry: {error}")
    for _, _, run, identity in sorted(found, key=lambda item: item[:2]):
        yield run, identity


def _try_to_add(
    registry: Registry, run: RunFolder, identity: dict[str, Any], notes: list[str]
) -> bool:
    try:
        _add_run(registry, run, identity, _labels(run, notes))
    except (OrchestraError, KeyError, TypeError, ValueError, OSError) as error:
        with suppress(NotFoundError):
            registry.delete_run(run.id)  # what was taken over before it broke
        notes.append(f"{run.path} is not in the registry: {error}")
        return False
    return True


def _labels(run: RunFolder, notes: list[str]) -> Labels:
    """Broken labels are no reason to lose sight of the run."""
    try:
        return Labels.read(run)
    except OrchestraError as error:
        notes.append(f"{run.path} has no labels: {error}")
        return Labels()


def _add_run(registry: Registry, run: RunFolder, identity: dict[str, Any], labels: Labels) -> None:
    config = run.job.config.read_bytes()
    settings = tomllib.loads(config.decode())
    git = read_json(run.provenance) if run.provenance.is_file() else {}
    new = NewRun(
        id=run.id,
        name=labels.name or str(identity["name"]),
        task=str(identity["task"]),
        upstream=str(identity["upstream"]),
        created_at=float(identity["created_at"]),
        max_steps=settings["train"].get("max_steps"),
        config_sha256=hashlib.sha256(config).hexdigest(),
        metric=settings.get("checkpoint", {}).get("metric"),
        git_commit=git.get("commit"),
        git_branch=git.get("branch"),
        git_dirty=git.get("dirty"),
        git_tree=git.get("tree"),
        demand=_demand(run.job),
        config=config_document(config),
        tags=labels.tags,
        remark=labels.remark,
        parent=str(identity.get("parent") or ""),
        member=str(identity.get("member") or ""),
    )
    try:
        registry.create_run(new)
    except ConflictError:
        # A copied run folder: both stay reachable.
        registry.create_run(NewRun(**{**vars(new), "name": run.id}))
    _add_job(registry, JobKey(run.id), run.job)
    _add_records(registry, run)
    for evaluation in run.all_evaluations():
        _add_evaluation(registry, run.id, evaluation)


def _demand(job: Job) -> Demand:
    """From queue.json and the config's `launch` table, as far as they are there."""
    entry = QueueEntry.read(job)
    try:
        launch = tomllib.loads(job.config.read_text(encoding="utf-8"))["launch"]
    except (FileNotFoundError, KeyError):
        return Demand(entry.priority, after=entry.after)
    gpus = gpus_of(launch["device"], launch["nproc"])
    return Demand(entry.priority, gpus, tuple(launch["gpu_ids"]), entry.after)


def _add_job(registry: Registry, key: JobKey, job: Job) -> None:
    """State and attempts."""
    attempts = [Attempt.read(folder) for folder in job.attempts() if folder.attempt.is_file()]
    for attempt in attempts:
        registry.start_attempt(key, attempt)
        if attempt.state is not AttemptState.RUNNING:
            registry.end_attempt(key, attempt)
    try:
        state = JobState.read(job)
    except FileNotFoundError:
        state = JobState(RunState.FAILED, "its state.json is missing", len(attempts), 0.0)
    registry.restore(
        key,
        state,
        started_at=attempts[0].started_at if attempts else None,
        ended_at=state.updated_at if state.state in ENDED else None,
    )


def _add_records(registry: Registry, run: RunFolder) -> None:
    """Checkpoints that still exist, and the newest numbers of the summary row."""
    found = manifests(run.checkpoints)
    for manifest in reversed(found):
        folder = run.checkpoint(manifest.step)
        registry.add_checkpoint(
            run.id,
            manifest.step,
            f"{folder.parent.name}/{folder.name}",
            manifest.score,
            manifest.metric,
            created_at=(folder / MANIFEST).stat().st_mtime,
        )
    records = [record for record in records_of(run.job) if record.kind != "checkpoint"]
    trained = [record.step for record in records if record.kind == "train"]
    best = next(iter(best_first(found)), None)
    registry.progress(
        run.id,
        trained[-1] if trained else 0,
        {
            **summary(records),
            "score": next((each.score for each in found if each.score is not None), None),
            "best_score": best.score if best else None,
            "metric": found[0].metric if found else None,
            "eta_s": None,
        },
    )


def _add_evaluation(registry: Registry, run_id: str, folder: EvaluationFolder) -> None:
    if not folder.spec.is_file():
        return
    if not (folder.job.state.is_file() or folder.metrics.is_file()):
        return  # the training ranks' own, unfinished: they have no row before their result
    spec = EvaluationSpec.read(folder)
    key = JobKey(run_id, folder.number)
    supervised = folder.job.state.is_file()
    registry.create_evaluation(
        run_id,
        folder.number,
        spec.split,
        spec.checkpoint,
        state=RunState.RUNNING,
        created_at=spec.created_at,
        demand=_demand(folder.job) if supervised else Demand(),
    )
    if supervised:
        _add_job(registry, key, folder.job)
    if folder.metrics.is_file():
        result = read_json(folder.metrics)
        found = result["metrics"], result["checkpoint"]["step"]
        if supervised:
            registry.add_result(run_id, folder.number, *found)
        else:
            ended_at = folder.metrics.stat().st_mtime
            registry.finish_evaluation(run_id, folder.number, *found, ended_at=ended_at)


def _adopt_labels(registry: Registry, run: RunFolder, row: RunRow, notes: list[str]) -> None:
    """What another machine called the run."""
    try:
        labels = Labels.read(run)
        name = labels.name or row.name
        if (name, labels.tags, labels.remark) != (row.name, row.tags, row.remark):
            registry.relabel(run.id, name=name, tags=labels.tags, remark=labels.remark)
    except OrchestraError as error:
        notes.append(f"{run.path} keeps its labels: {error}")


def _state_elsewhere(job: Job) -> JobState | None:
    """The job's state, if another machine's supervisor wrote it."""
    with suppress(FileNotFoundError):
        state = JobState.read(job)
        if state.supervisor is not None and not state.supervisor.is_here():
            return state
    return None


def _hide_from_git(folder: Path) -> None:
    """Checkpoints never become part of a commit or a snapshot, whatever the user ignores."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with suppress(FileNotFoundError):
            path.with_name(name).unlink()
