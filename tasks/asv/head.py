"""The x-vector: features of an utterance in, one embedding out.

No normalisation over a batch (SUPERB's has none either) and no frame of padding anywhere: an
embedding depends on its utterance alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestra.tasklib.pooling import mean_and_deviation
from orchestra.upstreams.base import valid_mask

from .config import Config

CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
"""(frames, dilation) of each time-delay layer."""

LOST_FRAMES = sum((frames - 1) * dilation for frames, dilation in CONTEXTS)
"""Frames at the edges for which there is not the whole context: 14."""


class Head(nn.Module):
    """Linear, time-delay layers, mean and deviation, two linear layers; a weight per speaker.

    Snyder et al. 2018 as SUPERB takes it (Yang et al. 2021). The time-delay layers give a frame
    only where their whole context is, as S3PRL's do. An utterance of up to LOST_FRAMES frames is
    filled up with zeros behind its end until it gives one.
    """

    def __init__(self, config: Config, dim: int, speakers: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, config.hidden)
        sizes = [config.hidden] * (len(CONTEXTS) - 1) + [config.pooled]
        self.layers = nn.ModuleList(
            nn.Conv1d(config.hidden, size, frames, dilation=dilation)
            for size, (frames, dilation) in zip(sizes, CONTEXTS, strict=True)
        )
        self.embedding = nn.Linear(2 * config.pooled, config.embedding)
        self.last = nn.Linear(config.embedding, config.embedding)
        self.speakers = nn.Parameter(torch.empty(speakers, config.embedding))
        nn.init.xavier_normal_(self.speakers)

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(batch, embedding), none below 0, of features (batch, frames, dim) and their lengths."""
        hidden = self.projection(features)
        hidden = hidden.masked_fill(~valid_mask(lengths, hidden.shape[1])[:, :, None], 0.0)
        hidden = F.pad(hidden, (0, 0, 0, max(LOST_FRAMES + 1 - hidden.shape[1], 0)))
        hidden = hidden.transpose(1, 2)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        hidden = hidden.transpose(1, 2)
        valid = valid_mask((lengths - LOST_FRAMES).clamp(min=1), hidden.shape[1])
        return torch.relu(self.embedding(mean_and_deviation(hidden, valid[:, :, None])))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(batch, speakers) cosines between the utterances and the training speakers."""
        last = torch.relu(self.last(self.embed(features, lengths)))
        # 16 bits would leave scaled cosines an error of 0.1.
        with torch.autocast(last.device.type, enabled=False):
            return F.linear(F.normalize(last.float()), F.normalize(self.speakers))


def am_softmax_logits(cosines: Tensor, speakers: Tensor, scale: float, margin: float) -> Tensor:
    """Logits whose cross entropy is the additive-margin softmax loss (Wang et al. 2018).

    cosines (batch, classes), speakers (batch,) the right classes.
    """
    right = F.one_hot(speakers, cosines.shape[1])
    return scale * (cosines - margin * right)
