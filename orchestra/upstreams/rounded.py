"""A frozen upstream as the feature cache sees it: float16, each utterance by itself.

What is stored has to follow from the utterance alone. So no utterance is computed beside others,
whose padding would change the last bits, and all are rounded as those that were stored, whether or
not anything is: any order of batches, number of ranks, kill and resume gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orchestra.tasks import Batch
from orchestra.upstreams.base import Features, Upstream
from orchestra.wire.errors import DataError

LARGEST = torch.finfo(torch.float16).max

Keep = Callable[[str, Tensor, int, bool], None]
"""Takes the key of an utterance, its features (layers, frames, dim) on the CPU, its samples, and
whether it is silent."""


class RoundedUpstream:
    """Hidden states of batches, from the cache as far as they are in it.

    Args:
        key: which of the upstream's outputs.
        layers: numbers of those that are used.
    """

    def __init__(self, upstream: Upstream, key: str, layers: Sequence[int]) -> None:
        self._upstream = upstream
        self._key = key
        self._layers = layers
        self.keep: Keep | None = None
        """What becomes of features that had to be computed."""

    def features(self, batch: Batch) -> Features:
        """The chosen layers, float16, zero at padded frames.

        Raises:
            DataError: an utterance is too short, or its features are not finite or too large for
                float16; names id and layer.
        """
        stored = batch.stored
        lengths = stored.lengths.tolist() if stored else [0] * len(batch.ids)
        fresh = {row: self._fresh(batch, row) for row, length in enumerate(lengths) if not length}
        if stored and not fresh:
            return Features({self._key: list(stored.layers)}, stored.lengths)
        for row, layers in fresh.items():
            lengths[row] = layers.shape[1]
        some = next(iter(fresh.values()))
        whole = some.new_zeros((len(some), len(batch.ids), max(lengths), some.shape[2]))
        if stored:
            whole[:, :, : stored.layers.shape[2]] = stored.layers
        for row, layers in fresh.items():
            whole[:, row, : lengths[row]] = layers
        return Features({self._key: list(whole)}, torch.tensor(lengths, device=whole.device))

    def _fresh(self, batch: Batch, row: int) -> Tensor:
        """(layers, frames, dim) of one utterance."""
        samples = int(batch.lengths[row])
        try:
            features = self._upstream(batch.wavs[row : row + 1, :samples], batch.lengths[row, None])
        except DataError as error:  # too short: the upstream knows no ids
            raise DataError(f"utterance {batch.ids[row]} can't be used: {error}") from error
        every = features.layers[self._key]
        layers = torch.stack([every[number][0] for number in self._layers])
        self._check(layers, batch.ids[row])
        rounded = layers.half()
        if self.keep is not None and batch.stored is not None and batch.stored.keys:
            silent = batch.ids[row] in batch.silent
            self.keep(batch.stored.keys[row], rounded.cpu(), samples, silent)
        return rounded

    def _check(self, layers: Tensor, name: str) -> None:
        largest = layers.abs().amax((1, 2)).tolist()
        for number, value in zip(self._layers, largest, strict=True):
            if not math.isfinite(value):
                raise DataError(f"{layer_of(name, number)} is not finite: {REMEDY}")
            if value > LARGEST:
                raise DataError(
                    f"{layer_of(name, number)} reaches {value:.3g}, "
                    f"which float16 can't hold (largest: {LARGEST:g}): set cache.features = false, "
                    "or leave that layer out with cache.layers"
                )


def layer_of(utterance: str, layer: int) -> str:
    """How sentences call it."""
    return f"layer {layer} of the features of utterance {utterance}"


REMEDY = (
    "look at the recording and at the upstream's weights, or leave the utterance out of the split "
    "(train.precision fp16 may overflow where bf16 or fp32 does not)"
)
