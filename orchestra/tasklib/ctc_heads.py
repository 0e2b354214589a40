"""Heads of CTC tasks: features in, one score per symbol and frame out.

Every layer runs over valid frames only: an utterance's scores don't depend on its batch mates.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from orchestra.data import SAMPLE_RATE
from orchestra.tasklib.ctc_config import (
    CtcHeadConfig,
    LinearHeadConfig,
    SmallHeadConfig,
    SuperbHeadConfig,
)
from orchestra.upstreams.base import valid_mask
from orchestra.wire.errors import UsageError


def build_head(config: CtcHeadConfig, dim: int, stride: int, symbols: int) -> nn.Module:
    """A module (features, lengths) -> (logits, lengths).

    features (batch, frames, dim), logits (batch, frames', symbols), lengths (batch,) in frames and
    frames'; the latter is `frames`, or with the small head ceil(frames / `stack_size`).

    Args:
        config: kind and sizes.
        dim: feature dimensions.
        stride: samples from one frame to the next.
        symbols: how many, the blank included.

    Raises:
        UsageError: frames are longer than the small head's `frame_ms`.
    """
    if isinstance(config, SmallHeadConfig):
        return SmallHead(config, stack_size(config.frame_ms, stride), dim, symbols)
    if isinstance(config, LinearHeadConfig):
        return LinearHead(config, dim, symbols)
    return SuperbHead(config, dim, symbols)


def stack_size(frame_ms: int, stride: int) -> int:
    """How many frames of `stride` samples fit into `frame_ms`: 3 of fbank's, 1 of wav2vec2's.

    Raises:
        UsageError: not even one.
    """
    size = frame_ms * SAMPLE_RATE // (1000 * stride)
    if size == 0:
        raise UsageError(
            f"task.head.frame_ms = {frame_ms}: the upstream's frames are "
            f"{1000 * stride / SAMPLE_RATE:g} ms long and can't be cut; "
            "set at least that, or take another upstream"
        )
    return size


def frame_samples(config: CtcHeadConfig, stride: int) -> int:
    """Samples from one of the head's frames to the next (UsageError as `stack_size`)."""
    if isinstance(config, SmallHeadConfig):
        return stride * stack_size(config.frame_ms, stride)
    return stride


class LinearHead(nn.Module):
    """Linear, linear, nothing in between (Yang et al. 2021, SUPERB, PR)."""

    def __init__(self, config: LinearHeadConfig, dim: int, symbols: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, config.projection)
        self.output = nn.Linear(config.projection, symbols)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `build_head`."""
        return self.output(self.projection(features)), lengths


class SuperbHead(nn.Module):
    """Linear, bidirectional LSTMs, linear (Yang et al. 2021, SUPERB, ASR).

    Dropout acts behind each LSTM, the last one too, as S3PRL's does.
    """

    def __init__(self, config: SuperbHeadConfig, dim: int, symbols: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, config.projection)
        # Not one nn.LSTM of several layers: the dropout inside of cuDNN's draws from a state of its
        # own, which no seed puts back.
        sizes = [config.projection] + [2 * config.hidden] * (config.layers - 1)
        self.lstms = nn.ModuleList(
            nn.LSTM(size, config.hidden, batch_first=True, bidirectional=True) for size in sizes
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.hidden, symbols)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `build_head`."""
        hidden = self.projection(features)
        for lstm in self.lstms:
            hidden = self.dropout(_run(lstm, hidden, lengths))
        return self.output(hidden), lengths


class SmallHead(nn.Module):
    """Frames joined, linear, bidirectional LSTMs, linear; a layer norm behind each but the last.

    Without the norms CTC stays on its all-blank plateau for hundreds of steps.
    """

    def __init__(self, config: SmallHeadConfig, stack: int, dim: int, symbols: int) -> None:
        super().__init__()
        self.stack = stack
        self.projection = nn.Sequential(
            nn.Linear(dim * stack, config.projection),
            nn.LayerNorm(config.projection),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        sizes = [config.projection] + [2 * config.hidden] * (config.layers - 1)
        self.lstms = nn.ModuleList(
            nn.LSTM(size, config.hidden, batch_first=True, bidirectional=True) for size in sizes
        )
        self.norms = nn.ModuleList(nn.LayerNorm(2 * config.hidden) for _ in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.hidden, symbols)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `build_head`."""
        stacked, lengths = stack_frames(features, lengths, self.stack)
        hidden = self.projection(stacked)
        for lstm, norm in zip(self.lstms, self.norms, strict=True):
            hidden = self.dropout(norm(_run(lstm, hidden, lengths)))
        return self.output(hidden), lengths


def stack_frames(
    features: torch.Tensor, lengths: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each `size` neighbouring frames joined into one; a last incomplete one is filled with 0."""
    batch, frames, dim = features.shape
    features = features.masked_fill(~valid_mask(lengths, frames)[:, :, None], 0.0)
    features = nn.functional.pad(features, (0, 0, 0, -frames % size))
    return features.reshape(batch, -1, size * dim), (lengths + size - 1) // size


def _run(lstm: nn.Module, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(batch, frames, size) -> (batch, frames, 2 * hidden) over valid frames; 0 behind them."""
    # Packing wants the lengths on the CPU whatever the device.
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    hidden, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])
    return hidden
