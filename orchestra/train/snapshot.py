"""A checkpoint's content copied between two steps, so that it is written while training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orchestra.train import tensor_file
from orchestra.train import tensors as tied
from orchestra.train.checkpoint import (
    AVERAGE,
    MODEL,
    OPTIMIZER,
    STATE,
    VERSION,
    Contents,
    Files,
)
from orchestra.wire.files import json_bytes


class Snapshots:
    """Copies into memory that it keeps: pages that are new cost several times the copy.

    The next `take` overwrites the one before, so that must be written by then.
    """

    def __init__(self) -> None:
        self._memory: dict[str, dict[str, Tensor]] = {}

    def reserve(self, contents: Contents) -> None:
        """Take the memory for contents like these, and touch it."""
        for file, tensors in (
            (MODEL, tied.first_names(contents.model)[0]),
            (OPTIMIZER, contents.optimizer),
            (AVERAGE, tied.first_names(contents.average)[0]),
        ):
            self._memory[file] = {
                name: torch.empty(tensor.shape, dtype=tensor.dtype).zero_()
                for name, tensor in tensors.items()
            }

    def take(self, contents: Contents) -> Files:
        """The files of a checkpoint; independent of the tensors from now on."""
        model, aliases = tied.first_names(contents.model)
        state = {"version": VERSION, **contents.state, "aliases": aliases}
        files = {
            MODEL: self._copy(MODEL, model),
            OPTIMIZER: self._copy(OPTIMIZER, contents.optimizer),
        }
        if contents.average:
            average, state["average_aliases"] = tied.first_names(contents.average)
            files[AVERAGE] = self._copy(AVERAGE, average)
        return {**files, STATE: [memoryview(json_bytes(state))]}

    def _copy(self, file: str, tensors: Mapping[str, Tensor]) -> list[memoryview]:
        old = self._memory.get(file, {})
        self._memory[file] = {
            name: _into(old.get(name), tensor.detach()) for name, tensor in tensors.items()
        }
        return tensor_file.encode(self._memory[file])


def _into(memory: Tensor | None, tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, in `memory` where that fits."""
    if memory is None or (memory.shape, memory.dtype) != (tensor.shape, tensor.dtype):
        memory = torch.empty(tensor.shape, dtype=tensor.dtype)
    return memory.copy_(tensor)
