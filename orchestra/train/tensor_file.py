"""Tensors as the bytes of a safetensors file, without a copy: what is hashed is what is written.

The library writes a file or one blob; here a writer gets the pieces, so that it can hash and sync
them itself. It reads them, too. Format: https://huggingface.co/docs/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from orchestra.wire.checkpoints import BadCheckpointError

_NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def encode(tensors: Mapping[str, Tensor]) -> list[memoryview]:
    """The file's content, piece by piece; the tensors' pieces are views of their memory.

    Args:
        tensors: contiguous, on the CPU.

    Raises:
        TypeError: a type that the format does not have.
    """
    # Wide types first, as the library does it: every tensor then starts at a multiple of its width.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    entries: dict[str, object] = {}
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in _NAMES:
            raise TypeError(f"{name} is {tensor.dtype}: a checkpoint can't hold that")
        start, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    length = len(header).to_bytes(8, "little")
    return [memoryview(length + header), *(_bytes(tensor) for _, tensor in ordered)]


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU. Copies: nothing stays mapped, so the file may be deleted.

    Raises:
        BadCheckpointError: it can't be read.
    """
    try:
        return {name: t.clone() for name, t in safetensors.torch.load_file(path).items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise BadCheckpointError(f"cannot read {path}: {error}") from error


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
