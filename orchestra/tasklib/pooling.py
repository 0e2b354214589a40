"""Statistics over the valid frames of an utterance, whatever stands behind them."""

from __future__ import annotations

import torch
from torch import Tensor

_VARIANCE_FLOOR = 1e-5
"""Added, so that the deviation of frames that are all alike has a gradient."""


def mean(frames: Tensor, valid: Tensor) -> Tensor:
    """(batch, frames, size) -> (batch, size) over the frames where `valid` (batch, frames, 1)."""
    return frames.masked_fill(~valid, 0.0).sum(1) / valid.sum(1)


def mean_and_deviation(frames: Tensor, valid: Tensor) -> Tensor:
    """(batch, frames, size) -> (batch, 2 * size) over the frames where `valid` (batch, frames, 1).

    The variance is divided by the number of frames, not by one less: one frame has one too.
    """
    centre = mean(frames, valid)
    variance = mean((frames - centre[:, None]) ** 2, valid)
    return torch.cat([centre, (variance + _VARIANCE_FLOOR).sqrt()], dim=1)
