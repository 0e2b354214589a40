"""Tied tensors: stored once, with a map of the other names. safetensors refuses shared memory."""

from __future__ import annotations

import torch
from torch import Tensor


def first_names(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, under its first name; and alias -> that name for the same memory."""
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first_name: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        # Empty tensors share the null pointer without being tied.
        if tensor.numel() and place in first_name:
            aliases[name] = first_name[place]
            continue
        first_name[place] = name
        stored[name] = tensor
    return stored, aliases


def without_aliases(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`first_names`, with contiguous copies on the CPU."""
    stored, aliases = first_names(tensors)
    copies = {
        name: torch.empty(t.shape, dtype=t.dtype).copy_(t.detach()) for name, t in stored.items()
    }
    return copies, aliases


def with_aliases(stored: dict[str, Tensor], aliases: dict[str, str]) -> dict[str, Tensor]:
    """The inverse: every name leads to its tensor."""
    return {**stored, **{alias: stored[name] for alias, name in aliases.items()}}
