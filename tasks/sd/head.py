"""The trainable part, and its permutation-invariant loss.

The LSTM runs forward in time only, so that no valid frame sees the padding behind it.
"""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra.upstreams.base import valid_mask

from .config import Config


class Head(nn.Module):
    """LSTM, linear (Yang et al. 2021, SUPERB, SD); one logit per frame and speaker."""

    def __init__(self, config: Config, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        """Samples from one frame to the next."""
        self.lstm = nn.LSTM(dim, config.hidden, config.layers, batch_first=True)
        self.output = nn.Linear(config.hidden, config.speakers)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, frames, speakers) logits of features (batch, frames, dim)."""
        logits: Tensor = self.output(self.lstm(features)[0])
        return logits


def frame_labels(turns: Tensor, speakers: int, frames: int, stride: int) -> Tensor:
    """(batch, frames, speakers) float: 1 where a speaker speaks.

    Args:
        turns: (batch, turns, 3) int64: speaker (-1: none), first sample, end sample.
        speakers: outputs of the head.
        frames: of the padded batch.
        stride: samples of a frame; a turn's ends are rounded to the nearest multiple.
    """
    first, end = (torch.round(turns[:, :, place] / stride) for place in (1, 2))
    frame = torch.arange(frames, device=turns.device)[None, None, :]
    active = (frame >= first[:, :, None]) & (frame < end[:, :, None])
    numbers = torch.arange(speakers, device=turns.device)
    own = turns[:, :, :1] == numbers  # (batch, turns, speakers)
    return torch.einsum("bkf,bks->bfs", active.float(), own.float()).clamp(max=1.0)


def permutation_invariant_loss(logits: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """(batch,) cross entropy under the best assignment of outputs to speakers.

    Summed over an utterance's valid frames, averaged over outputs (Fujita et al. 2019, EEND).
    Computed in float32. logits, labels (batch, frames, speakers), lengths (batch,) in frames.
    """
    logits = logits.float()
    count = logits.shape[2]
    valid = valid_mask(lengths, logits.shape[1])[:, :, None]
    costs = torch.stack(
        [
            F.binary_cross_entropy_with_logits(
                logits, labels[:, :, speaker : speaker + 1].expand_as(logits), reduction="none"
            )
            .masked_fill(~valid, 0.0)
            .sum(1)
            for speaker in range(count)
        ],
        dim=2,
    )  # (batch, output, speaker)
    outputs = torch.arange(count, device=logits.device)
    totals = [
        costs[:, outputs, torch.tensor(order, device=logits.device)].sum(1)
        for order in permutations(range(count))
    ]
    return torch.stack(totals, dim=1).amin(1) / count
