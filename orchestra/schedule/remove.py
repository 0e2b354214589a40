"""Deleting runs, and what no run needs any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestra.provenance.client import drop_refs
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.staging import PREFIX, make_runs_folder, nobody_builds
from orchestra.schedule.watch import unfinished_evaluations
from orchestra.supervise.lock import FileLock
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError
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


def remove_run(workspace: Workspace, run_id: str) -> None:
    """Delete the run: folder, registry row, git references.

    Raises:
        ConflictError: it, or an evaluation of it, is at work.
    """
    run = workspace.runs.run(run_id)
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run_id)
        if row.state in LIVE or unfinished_evaluations(workspace, run_id):
            raise ConflictError(f"run {run_id} is at work: `orchestra stop {run_id}` first")
        if run.path.is_dir():
            lock = FileLock.try_acquire(run.job.lock)
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


def collect(workspace: Workspace) -> Garbage:
    """Remove code snapshots that no run needs, and what killed commands left half made or half
    deleted, with its git references.

    Waits for commands that are just making a run. Other references are left alone: they may be
    of another workspace in the same repository.
    """
    make_runs_folder(workspace.runs)
    with open_registry(workspace.runs) as registry, nobody_builds(workspace.runs):
        leftovers = _leftovers(workspace.runs)
        folders = [*leftovers.values(), *_unused_snapshots(workspace.runs, registry)]
        dead = tuple(run_id for run_id in leftovers if not _known(registry, run_id))
        for folder in folders:
            _delete(folder)
        drop_refs(workspace.root, *dead)
    return Garbage(tuple(folders), dead)


def _leftovers(runs: RunsFolder) -> dict[str, Path]:
    """Folders of killed commands, by run id."""
    return {
        path.name.removeprefix(prefix): path
        for path in sorted(runs.path.iterdir())
        for prefix in (PREFIX, _TRASH)
        if path.name.startswith(prefix)
    }


def _unused_snapshots(runs: RunsFolder, registry: Registry) -> list[Path]:
    """Laid-out code that no run folder names. A run whose provenance can't be read stops it all."""
    used = set()
    for row in registry.list_runs():
        try:
            used.add(read_json(runs.run(row.id).provenance)["code"])
        except FileNotFoundError:  # its folder was removed by hand
            continue
    snapshots = runs.snapshot("x").parent
    if not snapshots.is_dir():
        return []
    return sorted(path for path in snapshots.iterdir() if path.name not in used)


def _known(registry: Registry, run_id: str) -> bool:
    try:
        registry.get_run(run_id)
    except NotFoundError:
        return False
    return True


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
