"""How a checkpoint folder is named and verified: for the ranks and the control plane alike.

    checkpoints/
        step-00001000/        committed: the rename to this name is the commit
            manifest.json     step, score, and size and sha256 of every other file
        .quarantine/          failed verification, kept for people, with the reason in reason.txt
        .superseded/          those that `resume --from` went back behind

Reads, never writes; knows no tensors (those are train/checkpoint.py's).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.wire.errors import OrchestraError

MANIFEST = "manifest.json"
QUARANTINE, SUPERSEDED = ".quarantine", ".superseded"
REASON = "reason.txt"
_STEP = re.compile(r"step-([0-9]{8,})")


class BadCheckpointError(OrchestraError):
    """The folder is not a whole checkpoint; the message says what is wrong with it."""


@dataclass(frozen=True)
class Manifest:
    """manifest.json."""

    step: int
    score: float | None
    """Value of `metric` on the validation split, if it was validated at this step."""
    metric: str
    files: dict[str, tuple[int, str]]
    """Name -> (bytes, sha256)."""
    sha256: str
    """Of manifest.json itself: the checkpoint's identity."""

    @property
    def size(self) -> int:
        """Bytes of all files it lists."""
        return sum(size for size, _ in self.files.values())


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return root / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step of a committed checkpoint, by its name."""
    return int(folder.name.removeprefix("step-"))


def committed(root: Path) -> list[Path]:
    """Committed checkpoints, newest first; not yet verified."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if _STEP.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def verify(folder: Path) -> Manifest:
    """The manifest, after size and hash of every file were compared.

    Raises:
        BadCheckpointError: a file is missing, torn or altered, or the manifest is unreadable.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest.files)
    return manifest


def check_files(folder: Path, files: dict[str, tuple[int, str]]) -> None:
    """Compare size and sha256 of the named files (BadCheckpointError)."""
    for name, (size, sha256) in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise BadCheckpointError(f"{folder / name} has {found} bytes instead of {size}")
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadCheckpointError(f"cannot read {folder / name}: {error.strerror}") from error
        if digest != sha256:
            raise BadCheckpointError(f"{folder / name} was altered: its sha256 differs")


def read_manifest(folder: Path) -> Manifest:
    """The manifest, without a look at the other files (BadCheckpointError)."""
    try:
        return parse_manifest((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BadCheckpointError(f"cannot read {folder / MANIFEST}: {error.strerror}") from error


def parse_manifest(data: bytes) -> Manifest:
    """The content of a manifest.json (BadCheckpointError)."""
    try:
        document = json.loads(data)
        if seal(document) != document.get("seal", seal(document)):  # older ones have none
            raise BadCheckpointError(f"{MANIFEST} was altered: its seal differs")
        return Manifest(
            step=document["step"],
            score=document["score"],
            metric=document["metric"],
            files={n: (f["size"], f["sha256"]) for n, f in document["files"].items()},
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpointError(f"{MANIFEST} is not a manifest ({error!r})") from error


def seal(document: dict[str, Any]) -> str:
    """sha256 of a manifest's other keys: no bit of it can flip and pass as another score."""
    others = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
