"""What a task learns from the training split before the first step, such as its classes.

    learnt.json     in the run's folder: {"version", "learnt"}
    state.json      of a checkpoint: "learnt"
    learnt.json     in an export

Written once, by rank 0 of the first attempt; whoever builds the head reads it before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestra.tasks import Task
from orchestra.train import checkpoint
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import DataError
from orchestra.wire.files import read_json, write_json
from orchestra.wire.folders import RunFolder
from orchestra.wire.manifest import Utterance

VERSION = 1
FILE = "learnt.json"


def learn(task: Task, utterances: Sequence[Utterance], run: RunFolder, *, writes: bool) -> None:
    """Let the task learn from its training split, or recall what the first attempt kept.

    Every rank learns the same; the one that `writes` keeps it.

    Raises:
        DataError: the split can't be learnt from.
    """
    if run.learnt.exists():
        recall(task, run)
        return
    learnt = task.learn(utterances)
    if writes:
        write_json(run.learnt, {"version": VERSION, "learnt": learnt})
    task.recall(learnt)


def recall(task: Task, run: RunFolder) -> None:
    """Give the task what its run kept; nothing where it never trained, or learnt nothing."""
    task.recall(read(run))


def read(run: RunFolder) -> dict[str, Any]:
    """What the run kept, {} if nothing (DataError: the file is damaged)."""
    return read_file(run.learnt)


def read_file(path: Path) -> dict[str, Any]:
    """What such a file of a run or an export holds, {} if there is none (DataError: damaged)."""
    return _read(path) if path.exists() else {}


def of_weights(folder: Path) -> Mapping[str, Any] | None:
    """What stands beside the weights of a checkpoint or an export; None in those of old versions.

    Raises:
        BadCheckpointError: it can't be read.
    """
    if weights.is_export(folder):
        path = folder / FILE
        return _read(path) if path.is_file() else None
    try:
        learnt: Mapping[str, Any] | None = read_json(folder / checkpoint.STATE).get("learnt")
    except OSError as error:
        raise BadCheckpointError(f"cannot read {folder / checkpoint.STATE}: {error}") from error
    return learnt


def _read(path: Path) -> dict[str, Any]:
    try:
        learnt: dict[str, Any] = json.loads(path.read_bytes())["learnt"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error!r}; take it from a copy of the run") from error
    return learnt
