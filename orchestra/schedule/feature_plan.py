"""What the feature cache of a run will hold, against its budget and the disk. Reads no audio."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestra.config.schema import HuggingFaceConfig, RunConfig, SpectralConfig
from orchestra.formats import size
from orchestra.wire.errors import UsageError
from orchestra.wire.features import (
    RESERVE_BYTES,
    default_folder,
    layers_to_keep,
    size_bytes,
    usage,
)
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import parts_of, read_summary

_GIB = 2**30
_FEWER = "store fewer layers (cache.layers or upstream.layers)"


def feature_plan(
    config: RunConfig, runs: RunsFolder, splits: Sequence[str], model: Mapping[str, Any]
) -> str:
    """A few words on the cache that `config` switches on.

    Args:
        splits: all that the job reads.
        model: what orchestra.upstreams.describe says of the upstream.

    Raises:
        UsageError: there is no such layer; or the features don't fit the budget or the disk.
        NotFoundError, DataError: a manifest is missing or can't be read.
    """
    upstream = config.upstream
    assert not isinstance(upstream, SpectralConfig), "refused before"
    whole = isinstance(upstream, HuggingFaceConfig) and upstream.key != "hidden_states"
    count = 1 if whole else int(model["layers"])
    layers = layers_to_keep(config.cache.layers, upstream.layers, count)
    folder = config.cache.folder or default_folder(runs)
    free = shutil.disk_usage(_existing(folder)).free
    manifests = config.data.manifests
    if manifests is None:
        return f"of unknown size (no manifests), {size(free)} free at {folder}"
    parts = dict.fromkeys(part for split in splits for part in parts_of(split))
    seconds = sum(read_summary(manifests, part).seconds for part in parts)
    needed = size_bytes(seconds, len(layers), int(model["dim"]), int(model["stride"]))
    there = usage(
        folder,
        source=model["source"],
        output=upstream.key,
        layers=layers,
        precision=config.train.precision,
    ).bytes
    text = (
        f"{size(needed)} for {'+'.join(parts)} ({seconds / 3600:.2f} h, {len(layers)} of {count} "
        f"layers)"
    )
    if needed > config.cache.max_gb * _GIB:
        raise UsageError(
            f"feature cache: {text}, more than cache.max_gb = {config.cache.max_gb:g}: raise it, "
            f"{_FEWER}, or set cache.features = false"
        )
    if needed - there > free - RESERVE_BYTES:
        raise UsageError(
            f"feature cache: {text}, {size(there)} are there, but only {size(free)} are free on "
            f"the disk of {folder}: make room (`orchestra gc --features 30`), set cache.folder to "
            f"another disk, {_FEWER}, or set cache.features = false"
        )
    return f"{text}; {size(there)} of such are there, {size(free)} free at {folder}"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
