"""SpecAugment on padded features: time warp, time masks, feature masks (Park et al. 2019).

Every utterance is augmented from its own seed and its own length alone: neither its neighbours
nor the padding nor the global random state matter. Differentiable in the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orchestra.tasklib.ctc_config import SpecAugmentConfig


def spec_augment(
    features: torch.Tensor, lengths: torch.Tensor, seeds: Sequence[int], config: SpecAugmentConfig
) -> torch.Tensor:
    """Warped and masked features, of the same shape and lengths; masked values become 0.

    Args:
        features: (batch, frames, dim).
        lengths: (batch,) in frames.
        seeds: one per utterance.
    """
    draws = _draws(seeds, 2 + 2 * config.time_masks + 2 * config.feature_masks)
    parts = [2, 2 * config.time_masks, 2 * config.feature_masks]
    warp, time, feature = torch.split(draws.to(features.device), parts, dim=1)
    lengths = lengths.to(features.device)
    if config.time_warp:
        features = _warp(features, lengths, warp, config.time_warp)
    if config.time_masks:
        hidden = _masks(lengths, features.shape[1], time, config.time_mask_frames)
        features = features.masked_fill(hidden[:, :, None], 0.0)
    if config.feature_masks:
        dims = torch.full_like(lengths, features.shape[2])
        hidden = _masks(dims, features.shape[2], feature, config.feature_mask_dims)
        features = features.masked_fill(hidden[:, None, :], 0.0)
    return features


def _draws(seeds: Sequence[int], count: int) -> torch.Tensor:
    """(batch, count) uniform in [0, 1), each row from its own seed."""
    generator = torch.Generator()
    return torch.stack([torch.rand(count, generator=generator.manual_seed(s)) for s in seeds])


def _masks(lengths: torch.Tensor, size: int, draws: torch.Tensor, max_width: int) -> torch.Tensor:
    """(batch, size) bool: a union of spans of 0 to `max_width`, none wider than its length.

    Args:
        lengths: (batch,) where spans may lie.
        draws: (batch, 2 * masks), each mask's width and place.
    """
    width_draws, place_draws = draws.chunk(2, dim=1)
    widest = lengths.clamp(max=max_width)[:, None]
    widths = (width_draws * (widest + 1)).long().clamp(max=widest)
    room = lengths[:, None] - widths
    starts = (place_draws * (room + 1)).long().clamp(max=room)
    positions = torch.arange(size, device=lengths.device)
    inside = (positions >= starts[:, :, None]) & (positions < (starts + widths)[:, :, None])
    return inside.any(dim=1)


def _warp(
    features: torch.Tensor, lengths: torch.Tensor, draws: torch.Tensor, distance: int
) -> torch.Tensor:
    """Move one inner frame by up to `distance` frames; both sides are stretched linearly.

    The ends stay where they are. Utterances of 2 * distance + 1 frames or fewer are left alone.
    """
    # Positions stay in float32: bfloat16 can't tell frame 257 from 258.
    last = (lengths - 1)[:, None].float()
    place, shift = draws[:, :1], draws[:, 1:]
    centre = distance + place * (last - 2 * distance)
    moved = centre + (2 * shift - 1) * distance
    frames = torch.arange(features.shape[1], device=features.device, dtype=torch.float32)
    before = frames * centre / moved.clamp(min=1e-3)
    after = centre + (frames - moved) * (last - centre) / (last - moved).clamp(min=1e-3)
    sources = torch.where(frames < moved, before, after)
    warps = (last > 2 * distance) & (frames <= last)
    sources = torch.where(warps, sources.clamp(min=0).minimum(last), frames)
    left = sources.floor()
    share = (sources - left)[:, :, None].to(features.dtype)
    return _gather(features, left) * (1 - share) + _gather(features, left + 1) * share


def _gather(features: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    index = frames.long().clamp(max=features.shape[1] - 1)
    return features.gather(1, index[:, :, None].expand(-1, -1, features.shape[2]))
