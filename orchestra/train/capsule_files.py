"""The tensors of a bug capsule on disk (wire/capsules.py has the layout): written whole or not at
all, read back as the batches that the step consumed.

Knows nothing of when a capsule is worth it (capsule.py) or of what is done with it (replay.py).
Reads no pickle.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from orchestra.tasks import Batch, Stored
from orchestra.train import tensors as tied
from orchestra.train.seeds import with_parts
from orchestra.train.tensor_file import load
from orchestra.wire.capsules import BATCHES, DOCUMENT, MODEL, WRITING, Capsule
from orchestra.wire.files import json_bytes, reading, sync_folder
from orchestra.wire.identity import is_of_dead_writer, marked
from orchestra.wire.manifest import Utterance

_RESERVE = 3.0
"""Times a capsule's size that must be free: checkpoints need the disk more."""

_STORED, _STORED_LENGTHS = "stored/layers", "stored/lengths"

Consumed = Sequence[tuple[int, Batch]]
"""(number of the micro-batch in its step, batch). One that is cut stands once for each part."""


def write(
    place: Capsule,
    document: dict[str, Any],
    consumed: Consumed,
    model: dict[str, Tensor] | None,
) -> int:
    """Commit a capsule; returns its bytes.

    Args:
        model: the weights, where they are to lie in this capsule.

    Raises:
        OSError: the disk is full or can't be written; nothing is left behind.
        RuntimeError, TypeError: a tensor can't be copied, or a value is no JSON.
    """
    blobs = {BATCHES: safetensors.torch.save(_tensors(consumed))}
    aliases: dict[str, str] = {}
    if model is not None:
        stored, aliases = tied.without_aliases(model)
        blobs[MODEL] = safetensors.torch.save(stored)
    document = {**document, "aliases": aliases, "micro_batches": _describe(consumed)}
    blobs[DOCUMENT] = json_bytes(document)
    size = sum(map(len, blobs.values()))
    root = place.folder.parents[1]
    temporary = root / marked(f"{WRITING}{place.name.replace('/', '-')}")
    try:
        _write_all(temporary, blobs, _RESERVE * size)
        place.folder.parent.mkdir(exist_ok=True)
        temporary.rename(place.folder)
        sync_folder(place.folder.parent)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return size


def sweep(root: Path) -> None:
    """Remove what writers that were killed left below the capsules folder."""
    for path in root.glob(f"{WRITING}*"):
        if is_of_dead_writer(path.name):
            shutil.rmtree(path, ignore_errors=True)


def read_batches(place: Capsule, document: dict[str, Any], device: torch.device) -> Consumed:
    """The micro-batches in the order in which the rank consumed them.

    Raises:
        OrchestraError: a file is missing or torn; it is named.
    """
    tensors = load(place.folder / BATCHES)
    with reading(place.folder / DOCUMENT):
        items = document["micro_batches"]
        owns = _folders(item["number"] for item in items)
        return [
            (item["number"], _batch(item, own, tensors, device))
            for own, item in zip(owns, items, strict=True)
        ]


def read_weights(place: Capsule, document: dict[str, Any]) -> dict[str, Tensor]:
    """The weights by name, tied ones under all their names (OrchestraError as `read_batches`)."""
    stored = load(place.folder / MODEL)
    with reading(place.folder / DOCUMENT):
        return tied.with_aliases(stored, document["aliases"])


def _write_all(folder: Path, blobs: dict[str, bytes], room: float) -> None:
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free
    if free < room:
        raise OSError(errno.ENOSPC, f"{free} bytes free, {room:.0f} wanted")
    for name, data in blobs.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _tensors(consumed: Consumed) -> dict[str, Tensor]:
    """`<number>/wavs`, `<number>/lengths`, `<number>/targets/<name>`, and `<number>/stored/...`
    of a feature cache; no two share memory.

    Of second and later parts `<number>.<part>/wavs` and so on.
    """
    named = {}
    owns = _folders(number for number, _ in consumed)
    for own, (_, batch) in zip(owns, consumed, strict=True):
        named[f"{own}wavs"] = batch.wavs
        named[f"{own}lengths"] = batch.lengths
        if batch.stored is not None:
            named[f"{own}{_STORED}"] = batch.stored.layers
            named[f"{own}{_STORED_LENGTHS}"] = batch.stored.lengths
        for name, tensor in batch.targets.items():
            named[f"{own}targets/{name}"] = tensor
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in named.items()
    }


def _describe(consumed: Consumed) -> list[dict[str, Any]]:
    """What of the batches is no tensor."""
    return [
        {
            "number": number,
            "ids": batch.ids,
            "seeds": batch.seeds,
            "utterances": [{**asdict(u), "path": str(u.path)} for u in batch.utterances],
        }
        for number, batch in consumed
    ]


def _folders(numbers: Iterable[int]) -> list[str]:
    """What the names of each batch's tensors begin with."""
    pieces = with_parts(numbers)
    return [f"{number}.{part}/" if part else f"{number}/" for number, part in pieces]


def _batch(
    item: dict[str, Any], own: str, tensors: dict[str, Tensor], device: torch.device
) -> Batch:
    """Features go on being what the cache had; nothing is stored any more."""
    mine = {k.removeprefix(own): v.to(device) for k, v in tensors.items() if k.startswith(own)}
    stored = None
    if _STORED in mine:
        stored = Stored(mine.pop(_STORED), mine.pop(_STORED_LENGTHS), [])
    return Batch(
        ids=item["ids"],
        wavs=mine.pop("wavs"),
        lengths=mine.pop("lengths"),
        targets={name.removeprefix("targets/"): tensor for name, tensor in mine.items()},
        seeds=item["seeds"],
        stored=stored,
        utterances=[Utterance(**{**u, "path": Path(u["path"])}) for u in item["utterances"]],
    )
