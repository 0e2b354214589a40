"""Checkpoints on disk: written whole or not at all, believed only after verification.

    step-00001000/            the rename to this name is the commit
        model.safetensors     parameters and buffers, without a frozen upstream's
        optimizer.safetensors
        state.json            everything that is no tensor; aliases of tied weights
        manifest.json         size and sha256 of each file above; step, score
    .writing-*                not committed; swept when its writer is dead
    .deleting-*               being deleted
    .quarantine/              failed verification, kept for people

Knows nothing of models, ranks or the loop. Reads no pickle.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from orchestra.train import tensors as tied
from orchestra.wire.checkpoints import (
    MANIFEST,
    QUARANTINE,
    BadCheckpointError,
    Manifest,
    committed,
    parse_manifest,
    step_folder,
    verify,
)
from orchestra.wire.files import sync_folder
from orchestra.wire.identity import start_ticks

VERSION = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_WRITING, _DELETING = ".writing-", ".deleting-"


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def write(root: Path, step: int, contents: Contents, score: float | None, metric: str) -> Manifest:
    """Commit a checkpoint.

    A good one of the same step and score stays: randomness is keyed, so it holds the same. One
    that is bad, or whose score was not known yet, is replaced.

    Raises:
        OSError: the disk is full or failed; nothing of this checkpoint is left behind.
    """
    final = step_folder(root, step)
    if final.exists():
        with contextlib.suppress(BadCheckpointError):
            there = verify(final)
            if there.score == score:
                return there
    blobs = _serialise(contents)
    manifest = _manifest_document(step, score, metric, blobs)
    blobs[MANIFEST] = _json(manifest)
    root.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    temporary = root / f"{_WRITING}{step:08d}-{pid}-{start_ticks(pid)}"
    try:
        _check_space(root, sum(map(len, blobs.values())))
        temporary.mkdir()
        for name, data in blobs.items():
            _write_durably(temporary / name, data)
        sync_folder(temporary)
        replaced = _set_aside(final) if final.exists() else None
        temporary.rename(final)
        sync_folder(root)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if replaced:
        shutil.rmtree(replaced)
    return parse_manifest(blobs[MANIFEST])


def first_good(folders: Iterable[Path], alarm: Callable[[str], None]) -> Path | None:
    """The first that verifies; worse ones before it move to quarantine and `alarm` is told."""
    for folder in folders:
        try:
            verify(folder)
        except BadCheckpointError as error:
            if not folder.exists():
                continue  # the retention of a run that trains on took it meanwhile
            place = _quarantine(folder)
            alarm(f"checkpoint {folder.name} is bad and was moved to {place}: {error}")
            continue
        return folder
    return None


def newest_good(root: Path, alarm: Callable[[str], None]) -> Path | None:
    """The newest committed checkpoint that verifies (see `first_good`)."""
    return first_good(committed(root), alarm)


def read(folder: Path) -> Contents:
    """All tensors (on the CPU, tied ones under all their names) and the state.

    Raises:
        BadCheckpointError: a file can't be read; verify first.
    """
    state = read_state(folder)
    model = tied.with_aliases(_load(folder / MODEL), state.pop("aliases"))
    return Contents(model, _load(folder / OPTIMIZER), state)


def read_model(folder: Path) -> dict[str, Tensor]:
    """The model's tensors alone (BadCheckpointError)."""
    return tied.with_aliases(_load(folder / MODEL), read_state(folder)["aliases"])


def read_state(folder: Path) -> dict[str, Any]:
    """state.json (BadCheckpointError)."""
    try:
        document: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"cannot read {folder / STATE}: {error}") from error
    return document


def delete(folder: Path) -> None:
    """Remove a checkpoint; it stops counting as one before the first file goes."""
    shutil.rmtree(_set_aside(folder))


def sweep(root: Path) -> None:
    """Remove what dead writers left behind."""
    if not root.is_dir():
        return
    for path in root.glob(f"{_DELETING}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{_WRITING}*"):
        _, pid, ticks = path.name.removeprefix(_WRITING).split("-")
        if str(start_ticks(int(pid))) != ticks:
            shutil.rmtree(path, ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    return folder.rename(folder.with_name(f"{_DELETING}{folder.name}-{os.getpid()}"))


def _serialise(contents: Contents) -> dict[str, bytes]:
    model, aliases = tied.without_aliases(contents.model)
    optimizer, _ = tied.without_aliases(contents.optimizer)
    return {
        MODEL: safetensors.torch.save(model),
        OPTIMIZER: safetensors.torch.save(optimizer),
        STATE: _json({"version": VERSION, **contents.state, "aliases": aliases}),
    }


def _manifest_document(
    step: int, score: float | None, metric: str, blobs: dict[str, bytes]
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "step": step,
        "score": score,
        "metric": metric,
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in blobs.items()
        },
    }


def _check_space(root: Path, size: int) -> None:
    """Fail before the disk is full to the last byte: others write there too."""
    free = shutil.disk_usage(root).free
    if free < 1.2 * size:
        raise OSError(errno.ENOSPC, f"{free} bytes free, {size} to write")


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _quarantine(folder: Path) -> Path:
    home = folder.parent / QUARANTINE
    home.mkdir(exist_ok=True)
    number = 0
    while (place := home / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(place)
    sync_folder(folder.parent)
    return place


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadCheckpointError(f"cannot read {path}: {error}") from error


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
