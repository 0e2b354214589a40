"""Where cached features lie, how large they are, and how they go. No tensors: both planes use it.

    <folder>/<kind>/kind.json               what the entries are of: upstream, layers, precision
    <folder>/<kind>/ab/<key>.safetensors    the hidden states of one utterance
    <folder>/recordings/ab                  hashes of files (orchestra/data/recording_hashes.py)
    <folder>/.new/                          entries being written

By default one folder serves all runs of a runs folder. An entry follows from its kind and key
alone, so that it never changes: readers need no lock, and whoever misses one makes it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.files import read_json
from orchestra.wire.folders import RunsFolder
from orchestra.wire.identity import is_of_dead_writer

KIND = "kind.json"
NEW = ".new"
RECORDINGS = "recordings"
SUFFIX = ".safetensors"
BYTES = 2
"""Of a float16."""
SAMPLE_RATE = 16_000
RESERVE_BYTES = 2**30
"""Left free on the disk for checkpoints, which need it more."""
_HEADER_BYTES = 180
_ABANDONED_S = 3600.0
"""Younger leftovers may be another machine's, whose processes can't be seen here."""
_DAY_S = 86400.0
_KIND_NAME = re.compile("[0-9a-f]{16}")
_LIBRARIES = ("numpy", "soundfile", "soxr", "torch", "transformers")
_PACKAGE = Path(__file__).parents[1]
_CODE = (_PACKAGE / "data" / "audio.py", *(_PACKAGE / "upstreams").rglob("*.py"))
"""Ours that makes features of a recording."""


@dataclass(frozen=True)
class Usage:
    """What lies in a cache folder."""

    entries: int
    bytes: int


def default_folder(runs: RunsFolder) -> Path:
    """The cache of the runs in a runs folder."""
    return runs.path / ".features"


def existing(folder: Path) -> Path:
    """It, or the nearest above it that is there: where its disk can be asked."""
    while not os.access(folder, os.F_OK):  # which raises nothing where we may not look
        folder = folder.parent
    return folder


def entry_path(folder: Path, kind: str, key: str) -> Path:
    return folder / kind / key[:2] / f"{key}{SUFFIX}"


def makers() -> dict[str, Any]:
    """What computes features here, as kind.json says it: libraries, and a hash of our own code."""
    digest = hashlib.sha256()
    for path in sorted(_CODE):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    return {"versions": versions, "code_sha256": digest.hexdigest()}


def size_bytes(
    seconds: float, count: int, layers: int, dim: int, *, stride: int, min_samples: int
) -> int:
    """What the features of so many utterances, so long together, will take.

    Args:
        stride: samples from one frame to the next.
        min_samples: of the first frame.
    """
    # The last frame is whole: half a stride is left over in the mean.
    frames = seconds * SAMPLE_RATE / stride - count * (min_samples / stride - 0.5)
    return round(max(frames, count)) * layers * dim * BYTES + count * _HEADER_BYTES


def layers_to_keep(wanted: Sequence[int] | None, one: int | None, count: int) -> list[int]:
    """Numbers of the hidden states that are stored, counted from 0.

    Args:
        wanted: cache.layers.
        one: upstream.layers.
        count: hidden states that the upstream gives.

    Raises:
        UsageError: there is no such layer, or one is named twice.
    """
    if wanted is None:
        wanted = list(range(count)) if one is None else [one]
    for layer in wanted:
        if not -count <= layer < count:
            raise UsageError(
                f"cache.layers: no layer {layer}; the upstream has {count}, from 0 to {count - 1}"
            )
    kept = [layer % count for layer in wanted]
    if len(set(kept)) < len(kept):
        raise UsageError(f"cache.layers names a layer twice: {', '.join(map(str, wanted))}")
    return kept


def usage(folder: Path, **said: Any) -> Usage:
    """Entries and their bytes; of the kinds alone whose kind.json says all of `said`."""
    sizes = [size for path in kinds(folder) if _says(path, said) for size in _sizes(path)]
    return Usage(len(sizes), sum(sizes))


def kinds(folder: Path) -> list[Path]:
    """The folders of all kinds of features in the cache."""
    names = sorted(entry.name for entry in _scanned(folder) if _KIND_NAME.fullmatch(entry.name))
    return [folder / name for name in names if os.access(folder / name / KIND, os.R_OK)]


def delete_unused(folder: Path, days: float) -> Usage:
    """Delete the entries that no run has read or written for so many days; what went.

    Runs at work go on: what they miss they compute.

    Raises:
        OrchestraError: an entry can't be deleted.
    """
    before_s, sizes = time.time() - days * _DAY_S, []
    try:
        for kind in kinds(folder):
            for path in _entries(kind):
                with contextlib.suppress(FileNotFoundError):  # another gc is at it
                    status = path.stat()
                    if status.st_mtime <= before_s:
                        path.unlink()
                        sizes.append(status.st_size)
            if not any(_entries(kind)):
                shutil.rmtree(kind, ignore_errors=True)
    except OSError as error:
        raise OrchestraError(f"cannot delete from {folder}: {error.strerror}") from error
    return Usage(len(sizes), sum(sizes))


def sweep(folder: Path) -> None:
    """Remove what killed writers left half written."""
    now = time.time()
    for entry in _scanned(folder / NEW):
        with contextlib.suppress(OSError):  # it is no longer there, or another user's
            if is_of_dead_writer(entry.name) and now - entry.stat().st_mtime > _ABANDONED_S:
                Path(entry.path).unlink()


def _says(kind: Path, said: dict[str, Any]) -> bool:
    if not said:
        return True
    try:
        document = read_json(kind / KIND)
    except (FileNotFoundError, OrchestraError):
        return False
    return all(document.get(name) == value for name, value in said.items())


def _sizes(kind: Path) -> Iterator[int]:
    for path in _entries(kind):
        with contextlib.suppress(OSError):  # deleted meanwhile
            yield path.stat().st_size


def _entries(kind: Path) -> Iterator[Path]:
    for folder in _scanned(kind):
        if folder.is_dir():
            files = _scanned(Path(folder.path))
            yield from [Path(file.path) for file in files if file.name.endswith(SUFFIX)]


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing if there is none (any more), or none that may be looked into."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
