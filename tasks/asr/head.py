"""The trainable part: features in, one score per symbol and frame out. Padding never matters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from orchestra.upstreams.base import valid_mask

from .config import SmallHead, SuperbHead


class CtcHead(nn.Module):
    """Linear, bidirectional LSTMs over valid frames only, linear; optionally frames stacked first.

    Args:
        dim: feature dimensions.
        symbols: how many, the blank included.
    """

    def __init__(self, config: SuperbHead | SmallHead, dim: int, symbols: int) -> None:
        super().__init__()
        self.stack = config.stack if isinstance(config, SmallHead) else 1
        self.activation = nn.ReLU() if isinstance(config, SmallHead) else nn.Identity()
        self.projection = nn.Linear(dim * self.stack, config.projection)
        self.lstm = nn.LSTM(
            config.projection,
            config.hidden,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.output = nn.Linear(2 * config.hidden, symbols)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (batch, frames / stack, symbols) and lengths (batch,), both rounded up.

        Args:
            features: (batch, frames, dim).
            lengths: (batch,) in frames, each at least 1.
        """
        stacked, lengths = stack_frames(features, lengths, self.stack)
        projected = self.activation(self.projection(stacked))
        # Lengths stand on the CPU for packing whatever the device: an LSTM's requirement.
        packed = pack_padded_sequence(
            projected, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=stacked.shape[1]
        )
        return self.output(hidden), lengths


def stack_frames(
    features: torch.Tensor, lengths: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each `size` neighbouring frames joined into one; a last incomplete one is filled with 0."""
    if size == 1:
        return features, lengths
    batch, frames, dim = features.shape
    features = features.masked_fill(~valid_mask(lengths, frames)[:, :, None], 0.0)
    features = nn.functional.pad(features, (0, 0, 0, -frames % size))
    return features.reshape(batch, -1, size * dim), (lengths + size - 1) // size
