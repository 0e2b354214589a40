"""Utterances that are longer than what a model takes, cut into windows and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestra.upstreams.base import valid_mask


@dataclass(frozen=True)
class Windows:
    """Those of a batch, in the order of utterances and of time."""

    wavs: Tensor
    """(windows, samples), zero at padding."""
    lengths: Tensor
    """(windows,) in samples."""
    counts: Tensor
    """(batch,) windows of each utterance."""

    def join(self, layers: list[Tensor], lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Frames of windows, (windows, frames, dim), one behind the other by utterance.

        Args:
            layers: of the windows.
            lengths: (windows,) in frames.

        Returns:
            (batch, frames, dim), zero at padding, and (batch,) valid frames.
        """
        if len(self.counts) == len(lengths):
            return layers, lengths
        owners = torch.arange(len(self.counts), device=lengths.device).repeat_interleave(
            self.counts
        )
        totals = lengths.new_zeros(len(self.counts)).index_add(0, owners, lengths)
        joined = valid_mask(totals, int(totals.max()))
        taken = valid_mask(lengths, layers[0].shape[1])
        return [_moved(layer[taken], joined) for layer in layers], totals


def cut_windows(wavs: Tensor, lengths: Tensor, size: int, hop: int, least: int) -> Windows:
    """Windows of `size` samples that begin each `hop`; a rest shorter than `least` makes none.

    Args:
        wavs: (batch, samples).
        lengths: (batch,) in samples, each at least `least`.
    """
    counts = (lengths - least) // hop + 1
    owners = torch.arange(len(wavs), device=wavs.device).repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    begin = (torch.arange(len(owners), device=wavs.device) - first[owners]) * hop
    sizes = (lengths[owners] - begin).clamp(max=size)
    time = begin.unsqueeze(1) + torch.arange(int(sizes.max()), device=wavs.device)
    cut = wavs[owners.unsqueeze(1), time.clamp(max=wavs.shape[1] - 1)]
    return Windows(cut.masked_fill(~valid_mask(sizes, cut.shape[1]), 0.0), sizes, counts)


def _moved(frames: Tensor, places: Tensor) -> Tensor:
    """(total, dim) in order to the true places of (batch, frames)."""
    moved = frames.new_zeros(*places.shape, frames.shape[-1])
    return moved.masked_scatter(places.unsqueeze(2), frames)
