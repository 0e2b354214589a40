"""Checkpoints on disk: written whole or not at all, believed only after verification.

    step-00001000/            the rename to this name is the commit
        model.safetensors     parameters and buffers, without a frozen upstream's
        optimizer.safetensors
        average.safetensors   moving averages of parameters, if there are any
        state.json            everything that is no tensor; aliases of tied weights
        manifest.json         size and sha256 of each file above; step, score
    .writing-*                not committed; swept when its writer is dead
    .replaced-step-*          stands in until the new one of its step is committed
    .deleting-*               being deleted
    .quarantine/              failed verification, kept for people, with the reason

Knows nothing of models, ranks or the loop. Reads no pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from orchestra.train import tensors as tied
from orchestra.train.goals import Goal
from orchestra.wire.checkpoints import (
    MANIFEST,
    QUARANTINE,
    REASON,
    BadCheckpointError,
    Manifest,
    committed,
    parse_manifest,
    seal,
    step_folder,
    verify,
)
from orchestra.wire.files import sync_folder
from orchestra.wire.identity import start_ticks

VERSION = 1
MODEL, OPTIMIZER, AVERAGE, STATE = (
    "model.safetensors",
    "optimizer.safetensors",
    "average.safetensors",
    "state.json",
)
_WRITING, _REPLACED, _DELETING = ".writing-", ".replaced-", ".deleting-"


Files = dict[str, list[memoryview]]
"""Name -> content in pieces (see snapshot.py)."""


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    average: dict[str, Tensor] = field(default_factory=dict)
    """Moving averages of the weights (optim.ema_decay); a file of its own, if there are any."""


def write(root: Path, step: int, files: Files, score: float | None, goal: Goal) -> Manifest:
    """Commit a checkpoint.

    A good one of the same step and score stays: randomness is keyed, so it holds the same. One
    whose score was not known yet is replaced, a bad one moves to quarantine.

    Raises:
        OSError: the disk is full or failed; nothing of this checkpoint is left behind.
    """
    final = step_folder(root, step)
    if final.exists():
        try:
            there = verify(final)
        except BadCheckpointError as error:
            _quarantine(final, error)
        else:
            if there.score == score:
                return there
    pid = os.getpid()
    temporary = root / f"{_WRITING}{step:08d}-{pid}-{start_ticks(pid)}"
    try:
        _check_space(root, sum(piece.nbytes for pieces in files.values() for piece in pieces))
        temporary.mkdir()
        listed = {name: _write_durably(temporary / name, pieces) for name, pieces in files.items()}
        manifest = _manifest(step, score, goal, listed)
        _write_durably(temporary / MANIFEST, [memoryview(manifest)])
        sync_folder(temporary)
        _commit(temporary, final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        recover(root)
        raise
    return parse_manifest(manifest)


def first_good(folders: Iterable[Path], alarm: Callable[[str], None]) -> Path | None:
    """The first that verifies; worse ones before it move to quarantine and `alarm` is told."""
    for folder in folders:
        try:
            verify(folder)
        except BadCheckpointError as error:
            if not folder.exists():
                continue  # the retention of a run that trains on took it meanwhile
            alarm(f"checkpoint {folder.name} is bad and {_put_away(folder, error)}: {error}")
            continue
        return folder
    return None


def newest_good(root: Path, alarm: Callable[[str], None]) -> Path | None:
    """The newest committed checkpoint that verifies (see `first_good`)."""
    recover(root)
    return first_good(committed(root), alarm)


def read(folder: Path) -> Contents:
    """All tensors (on the CPU, tied ones under all their names) and the state.

    Raises:
        BadCheckpointError: a file can't be read; verify first.
    """
    state = read_state(folder)
    model = tied.with_aliases(_load(folder / MODEL), state.pop("aliases"))
    average = _average(folder, state)
    state.pop("average_aliases", None)
    return Contents(model, _load(folder / OPTIMIZER), state, average)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The model to evaluate or export: averages where there are any (BadCheckpointError)."""
    state = read_state(folder)
    weights = _load(folder / MODEL) | _average(folder, state)
    aliases = {alias: name for alias, name in state["aliases"].items() if alias not in weights}
    return tied.with_aliases(weights, aliases)


def read_state(folder: Path) -> dict[str, Any]:
    """state.json (BadCheckpointError)."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"cannot read {folder / STATE}: {error}") from error
    return state


def delete(folder: Path) -> None:
    """Remove a checkpoint; it stops counting as one before the first file goes."""
    place = folder.with_name(f"{_DELETING}{folder.name.lstrip('.')}-{os.getpid()}")
    shutil.rmtree(folder.rename(place))


def sweep(root: Path) -> None:
    """Remove what dead writers left behind."""
    if not root.is_dir():
        return
    recover(root)
    for path in root.glob(f"{_DELETING}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{_WRITING}*"):
        _, pid, ticks = path.name.removeprefix(_WRITING).split("-")
        if str(start_ticks(int(pid))) != ticks:
            shutil.rmtree(path, ignore_errors=True)


def recover(root: Path) -> None:
    """Give a replaced checkpoint its name back if its writer died before the new one had it."""
    for path in root.glob(f"{_REPLACED}*"):
        final = root / path.name.removeprefix(_REPLACED)
        if final.exists():
            delete(path)
        else:
            path.rename(final)


def document(value: Any) -> bytes:
    """A JSON file."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _commit(temporary: Path, final: Path) -> None:
    """At no moment is the only good one without a name that `recover` or a reader knows."""
    replaced = final.with_name(f"{_REPLACED}{final.name}")
    if final.exists():
        final.rename(replaced)
    temporary.rename(final)
    sync_folder(final.parent)
    if replaced.exists():
        delete(replaced)


def _manifest(
    step: int, score: float | None, goal: Goal, files: dict[str, tuple[int, str]]
) -> bytes:
    listed = {name: {"size": size, "sha256": sha256} for name, (size, sha256) in files.items()}
    content = {"version": VERSION, "step": step, "score": score, **asdict(goal), "files": listed}
    return document({**content, "seal": seal(content)})


def _check_space(root: Path, size: int) -> None:
    """Fail before the disk is full to the last byte: others write there too."""
    free = shutil.disk_usage(root).free
    if free < 1.2 * size:
        raise OSError(errno.ENOSPC, f"{free} bytes free, {size} to write")


def _write_durably(path: Path, pieces: Sequence[memoryview]) -> tuple[int, str]:
    """Bytes and sha256 of what was meant to be written, taken from memory, not from the disk."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return sum(piece.nbytes for piece in pieces), digest.hexdigest()


def _put_away(folder: Path, error: BadCheckpointError) -> str:
    try:
        return f"was moved to {_quarantine(folder, error)}"
    except OSError as refusal:
        return f"can't be moved to quarantine ({refusal.strerror})"


def _quarantine(folder: Path, error: BadCheckpointError) -> Path:
    home = folder.parent / QUARANTINE
    home.mkdir(exist_ok=True)
    number = 0
    while (place := home / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(place)
    (place / REASON).write_text(f"{error}\n")
    sync_folder(folder.parent)
    return place


def _average(folder: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    aliases = state.get("average_aliases")
    return {} if aliases is None else tied.with_aliases(_load(folder / AVERAGE), aliases)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadCheckpointError(f"cannot read {path}: {error}") from error
