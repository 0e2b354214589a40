"""Folders that weights are taken from: a checkpoint of a run, or what `orchestra export` wrote.

    EXPORT/
        orchestra.json       run, step, score, commit; size and sha256 of every file below
        config.toml          the run's frozen config
        learnt.json          what the task learnt from the training split, such as its classes
        head.safetensors     featurizer and head
        upstream/            only if it was tuned: a folder of transformers' save_pretrained

Finds out what a folder is and verifies it; writes nothing, knows no tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestra.wire import checkpoints
from orchestra.wire.checkpoints import (
    BadCheckpointError,
    Manifest,
    check_files,
    listed_files,
    silently,
)
from orchestra.wire.errors import ConflictError

EXPORT = "orchestra.json"
OPTIMIZER = "optimizer.safetensors"
"""The one file of a checkpoint that has no part in its weights."""


def holds_weights(folder: Path) -> bool:
    """Whether the folder is a checkpoint or an export; whether it is whole shows `verify`."""
    return any((folder / name).is_file() for name in (EXPORT, checkpoints.MANIFEST))


def is_export(folder: Path) -> bool:
    """Whether it is an export, as opposed to a checkpoint."""
    return (folder / EXPORT).is_file()


def manifest_name(folder: Path) -> str:
    """The file that lists the others."""
    return EXPORT if is_export(folder) else checkpoints.MANIFEST


def read_manifest(folder: Path) -> Manifest:
    """What the folder says of itself; `files` are those that its weights need.

    Raises:
        BadCheckpointError: it says nothing, or nothing that can be used.
    """
    if not is_export(folder):
        manifest = checkpoints.read_manifest(folder)
    else:
        manifest = _read_export(folder / EXPORT)
    files = {name: entry for name, entry in manifest.files.items() if name != OPTIMIZER}
    return replace(manifest, files=files)


def verify(folder: Path, tick: Callable[[], None] = silently) -> Manifest:
    """`read_manifest`, after size and hash of every file it lists were compared.

    Args:
        tick: called after each piece that was read.

    Raises:
        BadCheckpointError: a file is missing, torn or altered.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest.files, tick)
    return manifest


def require_free(out: Path) -> None:
    """ConflictError unless an export may become `out`: nothing is there, or an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if os.path.lexists(out):
        raise ConflictError(f"{out} exists and is not an empty folder: name a new one")


def _read_export(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
        document = json.loads(data)
        checkpoint = document["checkpoint"]
        return Manifest(
            step=checkpoint["step"],
            score=checkpoint["score"],
            metric=checkpoint["metric"],
            files=listed_files(document),
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except OSError as error:
        raise BadCheckpointError(f"cannot read {path}: {error.strerror}") from error
    except BadCheckpointError as error:
        raise BadCheckpointError(f"{path} {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpointError(f"{path} is not that of an export ({error!r})") from error
