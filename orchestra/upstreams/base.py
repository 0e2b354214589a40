"""What every upstream is: padded waveforms in, named lists of hidden states out.

An upstream knows nothing of tasks, ranks, optimizers or checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orchestra.wire.errors import DataError


@dataclass(frozen=True)
class Features:
    """The hidden states of a batch.

    `layers[key]` is a list of (batch, frames, dim); frames at and after an utterance's length hold
    nothing of use. `lengths` (batch,) int64 counts the valid frames, always at least one.
    """

    layers: dict[str, list[Tensor]]
    lengths: Tensor


class Upstream(nn.Module, ABC):
    """A feature extractor. What it returns for an utterance never depends on its batch mates."""

    stride: int
    """Samples from one frame to the next."""
    min_samples: int
    """Samples that the first frame needs; shorter utterances are refused."""
    trainable: bool = False
    """Whether gradients flow into its parameters."""

    def forward(self, wavs: Tensor, lengths: Tensor) -> Features:
        """Hidden states of a batch.

        Args:
            wavs: (batch, samples) float32 in [-1, 1], 16 kHz, padded with anything at the end.
            lengths: (batch,) int64, valid samples of each row.

        Raises:
            DataError: an utterance is shorter than `min_samples`.
        """
        shortest, longest = torch.stack(torch.aminmax(lengths)).tolist()
        if shortest < self.min_samples:
            # Whoever knows ids says whose.
            raise DataError(
                f"{shortest} samples, but one frame needs {self.min_samples}; leave it out"
            )
        return self.extract(wavs[:, :longest], lengths)

    @abstractmethod
    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """`forward` after its checks; no column of `wavs` is padding in all rows."""

    def identity(self) -> dict[str, str]:
        """Which weights these are, for the record; empty if there are none."""
        return {}

    @abstractmethod
    def layer_dims(self, key: str) -> list[int]:
        """Dimensions of `Features.layers[key]`, known before any audio is seen.

        Raises:
            UsageError: there is no such key.
        """


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """(batch, size) bool, true at positions before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)
