"""Random pieces of utterances, for training."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor


def random_crop(
    features: Tensor, lengths: Tensor, seeds: Sequence[int], frames: int
) -> tuple[Tensor, Tensor]:
    """Up to `frames` frames of each utterance, from a place that follows from its seed alone.

    Args:
        features: (batch, frames, dim).
        lengths: (batch,) valid frames.
        seeds: one per utterance.
        frames: longest piece.

    Returns:
        Features and lengths of the pieces; the given ones where all are short enough.
    """
    if features.shape[1] <= frames:
        return features, lengths
    starts = [
        random.Random(f"{seed}/crop").randint(0, max(length - frames, 0))
        for seed, length in zip(seeds, lengths.tolist(), strict=True)
    ]
    offsets = torch.tensor(starts, device=features.device)[:, None]
    places = torch.arange(frames, device=features.device) + offsets
    # An utterance shorter than the piece starts at 0, so that no index is beyond the features.
    rows = torch.arange(len(starts), device=features.device)[:, None]
    return features[rows, places], lengths.clamp(max=frames)
