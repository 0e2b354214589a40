"""What the feature cache of a run will hold, against its budget and the disk. Reads no audio."""

from __future__ import annotations

import os
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
    existing,
    layers_to_keep,
    makers,
    size_bytes,
    usage,
)
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import parts_of, read_summary

_GIB = 2**30
_NEARLY = 0.95
"""Of what is needed: the estimate knows no utterance's own length."""
_FEWER = "store fewer layers (cache.layers or upstream.layers)"


def feature_plan(
    config: RunConfig, runs: RunsFolder, splits: Sequence[str], model: Mapping[str, Any]
) -> str:
    """A few words on the cache that `config` switches on.

    Args:
        splits: all that the job reads.
        model: what orchestra.upstreams.describe says of the upstream.

    Raises:
        UsageError: there is no such layer; or the features don't fit the budget or the disk, or the
            folder can't be written.
        NotFoundError, DataError: a manifest is missing or can't be read.
    """
    upstream = config.upstream
    assert not isinstance(upstream, SpectralConfig), "refused before"
    whole = isinstance(upstream, HuggingFaceConfig) and upstream.key != "hidden_states"
    count = 1 if whole else int(model["layers"])
    layers = layers_to_keep(config.cache.layers, upstream.layers, count)
    folder = config.cache.folder or default_folder(runs)
    free = shutil.disk_usage(existing(folder)).free
    manifests = config.data.manifests
    if manifests is None:
        return f"of unknown size (no manifests), {size(free)} free at {folder}"
    parts = dict.fromkeys(part for split in splits for part in parts_of(split))
    summaries = [read_summary(manifests, part) for part in parts]
    seconds = sum(summary.seconds for summary in summaries)
    needed = size_bytes(
        seconds,
        sum(summary.count for summary in summaries),
        len(layers),
        int(model["dim"]),
        stride=int(model["stride"]),
        min_samples=int(model["min_samples"]),
    )
    there = usage(folder, **_said(config, upstream.key, layers, model["source"])).bytes
    text = (
        f"{size(needed)} for {'+'.join(parts)} ({seconds / 3600:.2f} h, {len(layers)} of {count} "
        f"layers)"
    )
    limit = config.cache.max_gb * _GIB
    if needed > limit:
        raise UsageError(
            f"feature cache: {text}, more than cache.max_gb = {config.cache.max_gb:g}: raise it, "
            f"{_FEWER}, or set cache.features = false"
        )
    more = needed - there if there < _NEARLY * needed else 0
    held = usage(folder).bytes
    if more and held + more > limit:
        raise UsageError(
            f"feature cache: {text}, {size(there)} are there, but {folder} holds {size(held)} "
            f"already, with the rest more than cache.max_gb = {config.cache.max_gb:g}: make room "
            f"(`orchestra gc --features 30`), raise it, {_FEWER}, or set cache.features = false"
        )
    if more > free - RESERVE_BYTES:
        raise UsageError(
            f"feature cache: {text}, {size(there)} are there, but only {size(free)} are free on "
            f"the disk of {folder}: make room (`orchestra gc --features 30`), set cache.folder to "
            f"another disk, {_FEWER}, or set cache.features = false"
        )
    if more and not _writable(existing(folder)):
        raise UsageError(
            f"feature cache: {text}, {size(there)} are there, but {folder} can't be written to: "
            "set cache.folder to another, or cache.features = false"
        )
    return f"{text}; {size(there)} of such are there, {size(free)} free at {folder}"


def _said(config: RunConfig, key: str, layers: list[int], source: str) -> dict[str, Any]:
    """What kind.json says of such features, as far as it can be told without computing any."""
    on_gpu = config.launch.device == "gpu"
    return {
        "source": source,
        "output": key,
        "layers": layers,
        "precision": config.train.precision,
        "device": "cuda" if on_gpu else "cpu",
        **({} if on_gpu else {"threads": config.launch.threads}),
        **makers(),
    }


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
