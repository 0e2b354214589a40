"""Deleting runs, and what no run needs any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestra.provenance.client import drop_refs
from orchestra.provenance.layout import unused_snapshots
from orchestra.registry.rebuild import add_unknown
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.seen import Seen, check_seen
from orchestra.schedule.staging import PREFIX, make_runs_folder, nobody_builds
from orchestra.schedule.watch import unfinished_evaluations
from orchestra.supervise.lock import FileLock
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.features import Usage, default_folder, delete_unused, sweep, usage
from orchestra.wire.files import read_json
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import LIVE
from orchestra.workspace import Workspace

_TRASH = ".trash-"


@dataclass(frozen=True)
class Garbage:
    """What `collect` removed."""

    folders: tuple[Path, ...]
    refs: tuple[str, ...]
    """Run ids whose git references went."""
    notes: tuple[str, ...]
    """Sentences to say aloud: runs that the registry did not know, folders it can't take in."""


def remove_run(workspace: Workspace, run_id: str, seen: Seen | None = None) -> None:
    """Delete the run: folder, registry row, git references.

    Raises:
        ConflictError: it, or an evaluation of it, is at work, or another job waits for it; or it is
            not as `seen` any more.
    """
    run = workspace.runs.run(run_id)
    with open_registry(workspace.runs) as registry:
        check_seen(workspace, registry, seen)
        row = registry.get_run(run_id)
        if row.state in LIVE or unfinished_evaluations(workspace, run_id):
            raise ConflictError(f"run {run_id} is at work: `orchestra stop {run_id}` first")
        _refuse_if_awaited(registry, run_id)
        if run.path.is_dir():
            lock = FileLock.acquire_if_free(run.job.lock)
            if lock is None:
                raise ConflictError(f"run {run_id} is just starting or ending; try again")
            with lock:
                # Renamed first: whatever happens now, no half of a run keeps its id.
                trash = run.path.with_name(f"{_TRASH}{run_id}")
                _rename(run.path, trash)
                registry.delete_run(run_id)
            _delete(trash)
        else:
            registry.delete_run(run_id)
    drop_refs(workspace.root, run_id)


def _refuse_if_awaited(registry: Registry, run_id: str) -> None:
    waiting = [row.key for row in registry.queued() if row.demand.after == run_id]
    if waiting:
        names = ", ".join(map(str, waiting))
        stops = ", ".join(f"`orchestra stop {key.run_id}`" for key in waiting)
        raise ConflictError(
            f"{names} {'wait' if len(waiting) > 1 else 'waits'} for run {run_id}: {stops} first"
        )


def collect(workspace: Workspace) -> Garbage:
    """Remove code snapshots that no run needs, and what killed commands left half made or half
    deleted, with its git references. A whole run that was killed before it got its row gets one.

    Waits for commands that are just making a run. Other references are left alone: they may be
    of another workspace in the same repository.
    """
    make_runs_folder(workspace.runs)
    with open_registry(workspace.runs) as registry, nobody_builds(workspace.runs):
        found, notes = add_unknown(workspace.runs, registry)
        notes += [f"run {run_id} was not in the registry; now it is" for run_id in found]
        leftovers = _leftovers(workspace.runs)
        unused = unused_snapshots(workspace.runs, _code_in_use(workspace.runs))
        folders = [*leftovers.values(), *unused]
        dead = tuple(run_id for run_id in leftovers if not registry.knows(run_id))
        for folder in folders:
            _delete(folder)
        drop_refs(workspace.root, *dead)
    return Garbage(tuple(folders), dead, tuple(notes))


@dataclass(frozen=True)
class TidiedCache:
    """A folder of cached features: what went and what is left."""

    folder: Path
    gone: Usage
    left: Usage
    failure: str = ""
    """Why not all went that should have."""


def tidy_features(workspace: Workspace, days: float | None) -> list[TidiedCache]:
    """Sweep the runs' common feature cache, and the folders that runs have as cache.folder.

    Args:
        days: entries that were not used for so long go; None: none do.
    """
    with open_registry(workspace.runs) as registry:
        own = map(Path, registry.config_values("cache.folder"))
    folders = dict.fromkeys([default_folder(workspace.runs), *own])
    return [_tidied(folder, days) for folder in folders]


def _tidied(folder: Path, days: float | None) -> TidiedCache:
    sweep(folder)
    gone, failure = Usage(0, 0), ""
    if days is not None:
        try:
            gone = delete_unused(folder, days)
        except OrchestraError as error:  # another user's, perhaps
            failure = str(error)
    return TidiedCache(folder, gone, usage(folder), failure)


def _leftovers(runs: RunsFolder) -> dict[str, Path]:
    """Folders of killed commands, by run id."""
    return {
        path.name.removeprefix(prefix): path
        for path in sorted(runs.path.iterdir())
        for prefix in (PREFIX, _TRASH)
        if path.name.startswith(prefix)
    }


def _code_in_use(runs: RunsFolder) -> set[str]:
    """Snapshots that run folders name. A run whose provenance can't be read stops it all."""
    used = set()
    for path in runs.path.iterdir():
        provenance = runs.run(path.name).provenance
        if path.name.startswith(".") or not provenance.is_file():
            continue
        try:
            used.add(str(read_json(provenance)["code"]))
        except (KeyError, TypeError) as error:
            raise OrchestraError(f"{provenance} names no code snapshot") from error
    return used


def _rename(path: Path, to: Path) -> None:
    try:
        path.rename(to)
    except OSError as error:
        raise OrchestraError(f"cannot remove {path}: {error.strerror}") from error


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OrchestraError(
            f"cannot remove {folder}: {error.strerror}; `orchestra gc` tries again"
        ) from error
