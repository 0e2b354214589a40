"""Checkpoints on disk: written whole or not at all, believed only after verification.

    step-00001000/            the rename to this name is the commit
        model.safetensors     parameters and buffers, without a frozen upstream's
        optimizer.safetensors
        average.safetensors   moving averages of parameters, if there are any
        state.json            everything that is no tensor; aliases of tied weights
        manifest.json         size and sha256 of each file above; step, score
    .writing-*                not committed; swept when its writer is dead

What else may lie there stands in wire/checkpoints.py. Knows nothing of models, ranks or the loop.
Reads no pickle.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from orchestra.train import tensors as tied
from orchestra.train.goals import Goal
from orchestra.train.tensor_file import load
from orchestra.wire.checkpoints import (
    DELETING,
    MANIFEST,
    PIECE_BYTES,
    REPLACED,
    BadCheckpointError,
    Manifest,
    committed,
    delete,
    parse_manifest,
    quarantine,
    recover,
    seal,
    silently,
    step_folder,
    verify,
)
from orchestra.wire.files import json_bytes, sync_folder
from orchestra.wire.identity import is_of_dead_writer, marked

VERSION = 1
MODEL, OPTIMIZER, AVERAGE, STATE = (
    "model.safetensors",
    "optimizer.safetensors",
    "average.safetensors",
    "state.json",
)
_WRITING = ".writing-"
_SYNC_BYTES = 2**26
"""So much is handed to the disk at a time: what waits for it learns whether the disk gets on."""

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


def write(
    root: Path,
    step: int,
    files: Files,
    score: float | None,
    goal: Goal,
    tick: Callable[[], None] = silently,
) -> Manifest:
    """Commit a checkpoint.

    A good one of the same step and score stays: randomness is keyed, so it holds the same. One
    whose score was not known yet is replaced, a bad one moves to quarantine.

    Args:
        tick: called after each piece that was written.

    Raises:
        OSError: the disk is full or failed; nothing of this checkpoint is left behind.
    """
    final = step_folder(root, step)
    if final.exists():
        try:
            there = _verify_twice(final, tick)
        except BadCheckpointError as error:
            quarantine(final, error)
        else:
            if there.score == score:
                return there
    temporary = root / marked(f"{_WRITING}{step:08d}")
    try:
        _check_space(root, sum(piece.nbytes for pieces in files.values() for piece in pieces))
        temporary.mkdir()
        listed = {
            name: _write_durably(temporary / name, pieces, tick) for name, pieces in files.items()
        }
        manifest = _manifest(step, score, goal, listed)
        _write_durably(temporary / MANIFEST, [memoryview(manifest)], tick)
        sync_folder(temporary)
        _commit(temporary, final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        recover(root)
        raise
    return parse_manifest(manifest)


def first_good(
    folders: Iterable[Path], alarm: Callable[[str], None], tick: Callable[[], None] = silently
) -> Path | None:
    """The first that verifies; worse ones before it move to quarantine and `alarm` is told.

    Only for the rank that writes the run's checkpoints: nobody else moves them. `tick` is called
    after each piece that was read.
    """
    for folder in folders:
        try:
            _verify_twice(folder, tick)
        except BadCheckpointError as error:
            if not folder.exists():
                continue  # somebody removed it meanwhile
            alarm(f"checkpoint {folder.name} is bad and {_put_away(folder, error)}: {error}")
            continue
        return folder
    return None


def newest_good(
    root: Path, alarm: Callable[[str], None], tick: Callable[[], None] = silently
) -> Path | None:
    """The newest committed checkpoint that verifies (see `first_good`)."""
    recover(root)
    return first_good(committed(root), alarm, tick)


def read(folder: Path) -> Contents:
    """All tensors (on the CPU, tied ones under all their names) and the state.

    Raises:
        BadCheckpointError: a file can't be read; verify first.
    """
    state = read_state(folder)
    model = tied.with_aliases(load(folder / MODEL), state.pop("aliases"))
    average = _average(folder, state)
    state.pop("average_aliases", None)
    return Contents(model, load(folder / OPTIMIZER), state, average)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The model to evaluate or export: averages where there are any (BadCheckpointError)."""
    state = read_state(folder)
    weights = load(folder / MODEL) | _average(folder, state)
    aliases = {alias: name for alias, name in state["aliases"].items() if alias not in weights}
    return tied.with_aliases(weights, aliases)


def read_state(folder: Path) -> dict[str, Any]:
    """state.json (BadCheckpointError)."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise BadCheckpointError(f"cannot read {folder / STATE}: {error}") from error
    return state


def sweep(root: Path) -> None:
    """Remove what dead writers left behind."""
    if not root.is_dir():
        return
    recover(root)
    for path in root.glob(f"{DELETING}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{_WRITING}*"):
        if is_of_dead_writer(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _commit(temporary: Path, final: Path) -> None:
    """At no moment is the only good one without a name that `recover` or a reader knows."""
    replaced = final.with_name(f"{REPLACED}{final.name}")
    if final.exists():
        final.rename(replaced)
    temporary.rename(final)
    sync_folder(final.parent)
    if replaced.exists():
        with suppress(OSError):  # it is committed: what is left of the old one the sweep removes
            delete(replaced)


def _manifest(
    step: int, score: float | None, goal: Goal, files: dict[str, tuple[int, str]]
) -> bytes:
    listed = {name: {"size": size, "sha256": sha256} for name, (size, sha256) in files.items()}
    content = {"version": VERSION, "step": step, "score": score, **asdict(goal), "files": listed}
    return json_bytes({**content, "seal": seal(content)})


def _check_space(root: Path, size: int) -> None:
    """Fail before the disk is full to the last byte: others write there too."""
    free = shutil.disk_usage(root).free
    if free < 1.2 * size:
        raise OSError(errno.ENOSPC, f"{free} bytes free, {size} to write")


def _write_durably(
    path: Path, pieces: Sequence[memoryview], tick: Callable[[], None]
) -> tuple[int, str]:
    """Bytes and sha256 of what was meant to be written, taken from memory, not from the disk."""
    digest, unsynced = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in _small(pieces):
            digest.update(piece)
            file.write(piece)
            unsynced += piece.nbytes
            if unsynced >= _SYNC_BYTES:
                file.flush()
                os.fdatasync(file.fileno())
                unsynced = 0
            tick()
        file.flush()
        os.fsync(file.fileno())
    return sum(piece.nbytes for piece in pieces), digest.hexdigest()


def _small(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """The same bytes; no piece is so large that writing it takes long."""
    for piece in pieces:
        for start in range(0, piece.nbytes, PIECE_BYTES):
            yield piece[start : start + PIECE_BYTES]


def _verify_twice(folder: Path, tick: Callable[[], None]) -> Manifest:
    """A good checkpoint must not go because of one read that failed (BadCheckpointError)."""
    try:
        return verify(folder, tick)
    except BadCheckpointError:
        return verify(folder, tick)


def _put_away(folder: Path, error: BadCheckpointError) -> str:
    try:
        return f"was moved to {quarantine(folder, error)}"
    except OSError as refusal:
        return f"can't be moved to quarantine ({refusal.strerror})"


def _average(folder: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    aliases = state.get("average_aliases")
    return {} if aliases is None else tied.with_aliases(load(folder / AVERAGE), aliases)
