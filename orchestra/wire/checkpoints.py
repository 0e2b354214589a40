"""How a checkpoint folder is named and verified: for the ranks and the control plane alike.

    checkpoints/
        step-00001000/        committed: the rename to this name is the commit
            manifest.json     step, score, and size and sha256 of every other file
        .replaced-step-*      stands in until the new one of its step is committed
        .deleting-*           being deleted
        .quarantine/          failed verification, kept for people, with the reason in reason.txt
        .superseded/          those that `resume --from` went back behind

Reads, renames and deletes; writes none and knows no tensors (that is train/checkpoint.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import sync_folder

MANIFEST = "manifest.json"
QUARANTINE, SUPERSEDED = ".quarantine", ".superseded"
REASON = "reason.txt"
REPLACED, DELETING = ".replaced-", ".deleting-"
_STEP = re.compile(r"step-([0-9]{8,})")
PIECE_BYTES = 2**22
"""Read or written between two calls of a `tick`."""


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
    direction: Literal["min", "max"] | None = None
    """Which scores are better; None where that is not told."""

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


def manifests(root: Path) -> list[Manifest]:
    """Of the committed checkpoints whose manifest can be read, newest first."""
    found = []
    for folder in committed(root):
        with suppress(BadCheckpointError):  # a scan for the newest good one sets it aside
            found.append(read_manifest(folder))
    return found


def best_first(found: Iterable[Manifest]) -> list[Manifest]:
    """Those with a finite score, best first; of equals the older one first.

    One that does not tell which scores are better has no place among them.
    """
    signs = {"min": 1, "max": -1}
    scored = [
        (signs[one.direction] * one.score, one.step, one)
        for one in found
        if one.direction and one.score is not None and math.isfinite(one.score)
    ]
    return [one for _, _, one in sorted(scored, key=lambda entry: entry[:2])]


def silently() -> None:
    """What is called after each piece where nobody wants to know."""


def verify(folder: Path, tick: Callable[[], None] = silently) -> Manifest:
    """The manifest, after size and hash of every file were compared.

    Args:
        tick: called after each piece that was read: a heart may beat.

    Raises:
        BadCheckpointError: a file is missing, torn or altered, or the manifest is unreadable.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest.files, tick)
    return manifest


def check_files(
    folder: Path, files: dict[str, tuple[int, str]], tick: Callable[[], None] = silently
) -> None:
    """Compare size and sha256 of the named files (BadCheckpointError); `tick` as in `verify`."""
    for name, (size, sha256) in files.items():
        try:
            with (folder / name).open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise BadCheckpointError(f"{folder / name} has {found} bytes instead of {size}")
                digest = hashlib.sha256()
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
                    tick()
        except OSError as error:
            raise BadCheckpointError(f"cannot read {folder / name}: {error.strerror}") from error
        if digest.hexdigest() != sha256:
            raise BadCheckpointError(f"{folder / name} was altered: its sha256 differs")


def read_manifest(folder: Path) -> Manifest:
    """The manifest, without a look at the other files (BadCheckpointError)."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadCheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        return parse_manifest(data)
    except BadCheckpointError as error:
        raise BadCheckpointError(f"{path} {error}") from error


def parse_manifest(data: bytes) -> Manifest:
    """The content of a manifest.json (BadCheckpointError: what is wrong with it)."""
    try:
        document = json.loads(data)
        if seal(document) != document.get("seal", seal(document)):  # older ones have none
            raise BadCheckpointError("was altered: its seal differs")
        return Manifest(
            step=document["step"],
            score=document["score"],
            metric=document["metric"],
            direction=document.get("direction"),
            files=listed_files(document),
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpointError(f"is not a manifest ({error!r})") from error


def listed_files(document: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Name -> (bytes, sha256) of the files that the manifest of a checkpoint or an export lists.

    Raises:
        BadCheckpointError: a name leads out of its folder.
        KeyError, TypeError, AttributeError: it is no manifest.
    """
    for name in document["files"]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadCheckpointError(f"lists {name!r}, which is not in its folder")
    return {name: (file["size"], file["sha256"]) for name, file in document["files"].items()}


def seal(document: dict[str, Any]) -> str:
    """sha256 of a manifest's other keys: no bit of it can flip and pass as another score."""
    others = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def quarantined(root: Path, step: int) -> list[Path]:
    """Where the checkpoints of `step` that failed verification lie now, oldest first."""
    return sorted((root / QUARANTINE).glob(f"{step_folder(root, step).name}.*"))


def quarantine(folder: Path, error: BadCheckpointError) -> Path:
    """Move a bad checkpoint away, with the reason; returns where it lies now (OSError)."""
    home = folder.parent / QUARANTINE
    home.mkdir(exist_ok=True)
    number = 0
    while (place := home / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(place)
    (place / REASON).write_text(f"{error}\n")
    sync_folder(folder.parent)
    return place


def delete(folder: Path) -> None:
    """Remove a checkpoint (OSError); it stops counting as one before the first file goes."""
    place = folder.with_name(f"{DELETING}{folder.name.lstrip('.')}-{os.getpid()}")
    shutil.rmtree(folder.rename(place))


def recover(root: Path) -> None:
    """Give a replaced checkpoint its name back if its writer died before the new one had it.

    Only for who owns the run: a live writer is between two renames for a moment.

    Raises:
        OSError: a folder can't be moved or deleted.
    """
    for path in root.glob(f"{REPLACED}*"):
        final = root / path.name.removeprefix(REPLACED)
        if final.exists():
            try:
                verify(final)
            except BadCheckpointError as error:
                quarantine(final, error)
            else:
                delete(path)
                continue
        path.rename(final)
