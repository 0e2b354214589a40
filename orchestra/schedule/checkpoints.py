"""Which checkpoint folders a run has, by name. Whether one is good is verified by the ranks."""

from __future__ import annotations

import time
from pathlib import Path

from orchestra.registry.store import Registry
from orchestra.wire.checkpoints import (
    MANIFEST,
    SUPERSEDED,
    BadCheckpointError,
    best_first,
    committed,
    manifests,
    quarantined,
    read_manifest,
    step_of,
)
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.folders import RunFolder


def steps(run: RunFolder) -> dict[int, Path]:
    """Committed checkpoints by step, oldest first."""
    return {step_of(path): path for path in reversed(committed(run.checkpoints))}


def find(run: RunFolder, wanted: str) -> Path:
    """The checkpoint called `best`, `last`, by its step or by its path.

    A path is relative to the run folder, as `show` prints it, or to the current folder.

    Raises:
        NotFoundError: there is none, and the message names those that exist; or a folder of that
            path is no checkpoint.
        BadCheckpointError: a manifest that may be the best one's can't be read.
    """
    there = steps(run)
    if wanted == "last" and there:
        return there[max(there)]
    if wanted == "best" and there:
        return there[_best(run)]
    if wanted.isdecimal() and int(wanted) in there:
        return there[int(wanted)]
    folders = [path for path in (run.path / wanted, Path(wanted).absolute()) if path.is_dir()]
    if "/" in wanted and folders:
        found = next((path for path in folders if (path / MANIFEST).is_file()), None)
        if found is None:
            raise NotFoundError(f"{folders[0]} is no checkpoint: it has no {MANIFEST}")
        return found
    some = ", ".join(str(step) for step in there) or "none yet"
    text = f"run {run.id} has no checkpoint {wanted!r}; steps with one: {some}"
    if bad := quarantined(run.checkpoints, int(wanted)) if wanted.isdecimal() else []:
        text += f"; that of {wanted} failed verification and lies in {bad[-1]}"
    raise NotFoundError(text)


def recorded(run: RunFolder, folder: Path) -> str:
    """A checkpoint as every record has it: relative to the run folder where it lies in it."""
    root, folder = run.path.resolve(), folder.resolve()
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def set_aside_newer(run: RunFolder, registry: Registry, step: int) -> list[int]:
    """Move checkpoints after `step` to checkpoints/.superseded/, so that `step` is the newest.

    Returns their steps. Kept, not deleted: the user may have chosen wrongly.
    """
    newer = [(number, path) for number, path in steps(run).items() if number > step]
    if not newer:
        return []
    aside = run.checkpoints / SUPERSEDED / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    try:
        aside.mkdir(parents=True, exist_ok=True)
        for number, path in newer:
            path.rename(aside / path.name)
            registry.drop_checkpoint(run.id, number)
        best = next(iter(best_first(manifests(run.checkpoints))), None)
        registry.progress(run.id, step, {"best_score": best.score if best else None})
    except OSError as error:
        raise OrchestraError(f"cannot move checkpoints to {aside}: {error.strerror}") from error
    return [number for number, _ in newer]


def _best(run: RunFolder) -> int:
    # A manifest that can't be read may be the best one's: no other stands in silently.
    try:
        found = [read_manifest(folder) for folder in committed(run.checkpoints)]
    except BadCheckpointError as error:
        raise BadCheckpointError(
            f"{error}; name a step: `orchestra checkpoints {run.id} --verify` lists the good ones"
        ) from error
    if any(one.score is not None and one.direction is None for one in found):
        raise NotFoundError(
            f"run {run.id}: its checkpoints don't tell which scores are better (written by an "
            "older version): name a step"
        )
    ranked = best_first(found)
    if not ranked:
        raise NotFoundError(f"run {run.id} has no scored checkpoint yet; name a step or `last`")
    return ranked[0].step
