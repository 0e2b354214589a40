"""Heads that score a whole utterance: frames of features in, one score per class out.

Only valid frames count: an utterance's scores don't depend on its batch mates.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from orchestra.tasklib.classification_config import SmallHeadConfig, SuperbHeadConfig
from orchestra.tasklib.pooling import mean, mean_and_deviation
from orchestra.upstreams.base import valid_mask

_KERNELS = (5, 3, 3)
_DILATIONS = (1, 2, 3)
"""Frames that a convolution sees, and from one of them to the next: 15 frames in all."""


def build_head(config: SuperbHeadConfig | SmallHeadConfig, dim: int, classes: int) -> nn.Module:
    """A module (features, lengths) -> logits (batch, classes).

    features (batch, frames, dim); lengths (batch,) in frames, each at least one.
    """
    if isinstance(config, SmallHeadConfig):
        return SmallHead(config, dim, classes)
    return SuperbHead(config, dim, classes)


class SuperbHead(nn.Module):
    """Linear, mean over time, linear (Yang et al. 2021, SUPERB, utterance-level tasks).

    The mean is taken first: without a non-linearity that is the same, for a fraction of the work.
    """

    def __init__(self, config: SuperbHeadConfig, dim: int, classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, config.projection)
        self.output = nn.Linear(config.projection, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """See `build_head`."""
        valid = valid_mask(lengths, features.shape[1])[:, :, None]
        logits: Tensor = self.output(self.projection(mean(features, valid)))
        return logits


class SmallHead(nn.Module):
    """Dilated convolutions, then mean and deviation over time, then linear.

    The shape of an x-vector network (Snyder et al. 2018), at a size for CPUs.
    """

    def __init__(self, config: SmallHeadConfig, dim: int, classes: int) -> None:
        super().__init__()
        sizes = [dim, *[config.channels] * len(_KERNELS)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, padding="same", dilation=dilation)
            for (before, after), kernel, dilation in zip(
                pairwise(sizes), _KERNELS, _DILATIONS, strict=True
            )
        )
        # Before each: the scale of features differs by upstream, that of layers must not.
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[:-1])
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.channels, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """See `build_head`."""
        valid = valid_mask(lengths, features.shape[1])[:, :, None]
        hidden = features
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            # Behind an utterance stand zeros, as behind the longest of a batch.
            normed = norm(hidden).masked_fill(~valid, 0.0)
            hidden = torch.relu(convolution(normed.transpose(1, 2)).transpose(1, 2))
        logits: Tensor = self.output(self.dropout(mean_and_deviation(hidden, valid)))
        return logits
