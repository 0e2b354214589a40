"""Which bug capsules a run has, and their document. No tensors: those are train/capsule_files.py's.

    capsules/step-00000124/attempt-0001-rank1/    the rename to this name is the commit
        capsule.json          what happened, where, under which code, config and versions
        batches.safetensors   the rank's micro-batches of the step
        model.safetensors     the weights that the step began with; where all ranks have a capsule
                              of the step, in rank 0's alone
    capsules/.writing-*       not committed

A capsule is no checkpoint: nothing ever resumes from one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json, reading

VERSION = 1
DOCUMENT, BATCHES, MODEL = "capsule.json", "batches.safetensors", "model.safetensors"
WRITING = ".writing-"
Reason = Literal["not finite", "exception"]

_STEP = re.compile(r"step-(\d{8,})")
_RANK = re.compile(r"attempt-(\d{4,})-rank(\d+)")


@dataclass(frozen=True)
class Capsule:
    """A committed capsule, by its name."""

    folder: Path
    step: int
    """As the log counts them: the first is 1."""
    attempt: int
    rank: int

    @property
    def name(self) -> str:
        """Relative to the capsules folder."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def capsule_of(root: Path, step: int, attempt: int, rank: int) -> Capsule:
    """The place of a capsule below `root`, there or not."""
    folder = root / f"step-{step:08d}" / f"attempt-{attempt:04d}-rank{rank}"
    return Capsule(folder, step, attempt, rank)


def capsules_in(root: Path) -> list[Capsule]:
    """The committed capsules, oldest first: attempts follow each other in time, as do steps."""
    found = [
        Capsule(folder, int(step[1]), int(rank[1]), int(rank[2]))
        for step_folder in _folders(root)
        if (step := _STEP.fullmatch(step_folder.name))
        for folder in _folders(step_folder)
        if (rank := _RANK.fullmatch(folder.name))
    ]
    return sorted(found, key=lambda capsule: (capsule.attempt, capsule.step, capsule.rank))


def read_document(capsule: Capsule) -> dict[str, Any]:
    """capsule.json.

    Raises:
        OrchestraError: it is missing, torn or of another version.
    """
    path = capsule.folder / DOCUMENT
    try:
        document: dict[str, Any] = read_json(path)
    except FileNotFoundError as error:
        raise OrchestraError(f"the capsule {capsule.folder} is not whole: no {DOCUMENT}") from error
    with reading(path):
        if document["version"] != VERSION:
            raise OrchestraError(f"{path} is of version {document['version']}, not {VERSION}")
        what_happened(document)
    return document


def what_happened(document: dict[str, Any]) -> str:
    """A few words: `ValueError: boom`, or `loss is not finite`."""
    if document["reason"] == "exception":
        return f"{document['exception']['type']}: {document['exception']['message']}"
    return f"{document['non_finite'][0]} is not finite"


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
