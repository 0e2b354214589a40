"""The hidden states of one utterance as a file: safetensors with one float16 tensor, `layers`.

Its metadata hold what else the audio told and a CRC-32 over that, the shape and the tensor, which
`verified` checks. Read straight into a batch: one system call per utterance, no copy in between.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from orchestra.wire.errors import DataError
from orchestra.wire.features import BYTES

_TENSOR = "layers"
_ALIGNMENT = 8
_USED_AGAIN_S = 86400.0
"""A use is noted in the file's times once in so long."""


@dataclass(frozen=True)
class Entry:
    """A file that was found good."""

    path: Path
    shape: tuple[int, int, int]
    """(layers, frames, dim)."""
    samples: int
    """Of the waveform."""
    silent: bool
    """Whether there is nothing to hear in it."""
    offset: int
    """Bytes before the tensor."""

    @property
    def frames(self) -> int:
        return self.shape[1]


def encoded(layers: Tensor, samples: int, silent: bool) -> tuple[bytes, memoryview]:
    """Header and data of the file that holds `layers` (layers, frames, dim)."""
    shape = tuple(layers.shape)
    data: memoryview = layers.contiguous().numpy().data.cast("B")
    checksum = _checksum(shape, samples, silent, data)
    header = {
        "__metadata__": {
            "samples": str(samples),
            "silent": str(int(silent)),
            "crc32": str(checksum),
        },
        _TENSOR: {"dtype": "F16", "shape": shape, "data_offsets": [0, len(data)]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, data


def verified(path: Path) -> Entry:
    """Read all of a file and check it; notes that it was used.

    Raises:
        FileNotFoundError, NotADirectoryError, PermissionError: there is none for us.
        DataError: it is torn or damaged, or can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read()
            if time.time() - os.fstat(file.fileno()).st_mtime > _USED_AGAIN_S:
                with contextlib.suppress(OSError):  # another user's, or read-only
                    os.utime(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    try:
        offset = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:offset])
        layers, frames, dim = header[_TENSOR]["shape"]
        samples = int(header["__metadata__"]["samples"])
        silent = header["__metadata__"]["silent"] == "1"
        checksum = int(header["__metadata__"]["crc32"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: no header") from error
    shape = (layers, frames, dim)
    tensor = memoryview(data)[offset:]
    whole = len(tensor) == BYTES * math.prod(shape)
    if not whole or _checksum(shape, samples, silent, tensor) != checksum:
        raise DataError(f"{path} is damaged: its checksum is wrong")
    return Entry(path, shape, samples, silent, offset)


def read_into(entry: Entry, rows: Tensor) -> None:
    """Fill `rows` (layers, frames, dim), float16, each layer contiguous.

    Raises:
        OSError, DataError: the file went or shrank after it was `verified`.
    """
    with entry.path.open("rb", buffering=0) as file:
        got = os.preadv(file.fileno(), [layer.numpy() for layer in rows], entry.offset)
    if got != BYTES * math.prod(entry.shape):
        raise DataError(f"{entry.path} shrank while it was read")


def _checksum(shape: tuple[int, ...], samples: int, silent: bool, data: memoryview) -> int:
    return zlib.crc32(data, zlib.crc32(f"{shape} {samples} {silent}".encode()))
