"""What an upstream makes of one sound, to the last bit: whether two upstreams are one and the same.

Hashes name weights and files. What an upstream reads besides, the libraries that it calls, threads
and kind of processor change features too, and all of them show here. Knows no cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.base import Upstream
from orchestra.wire.errors import UsageError

_LOUDNESS = 0.1
_ROUNDING = 2e-3
"""Relative error of a layer that float16 holds well is a tenth of it."""


def probe(upstream: Upstream, key: str, layers: Sequence[int], device: torch.device) -> Tensor:
    """(layers, frames, dim) of a second of noise, or of the least that has a frame.

    Call without gradients, and under the autocast that is meant.

    Raises:
        UsageError: float16 would round all of a layer away.
    """
    samples = max(SAMPLE_RATE, upstream.min_samples)
    noise = _LOUDNESS * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    features = upstream(noise.to(device), torch.tensor([samples], device=device)).layers[key]
    chosen = [features[number][0] for number in layers]
    for number, layer in zip(layers, chosen, strict=True):
        _require_precise(number, layer.float())
    return torch.stack(chosen).cpu()


def _require_precise(number: int, layer: Tensor) -> None:
    """What float16 can't hold at all is refused where it comes up, with the utterance's id."""
    rounded = layer.half().float()
    lost = float((rounded - layer).norm() / layer.norm())
    if bool(rounded.isfinite().all()) and lost > _ROUNDING:
        raise UsageError(
            f"cache.features: layer {number} of the upstream's features is so small (at most "
            f"{float(layer.abs().max()):.3g}) that float16 changes it by {lost:.1%}: scale it up "
            "in the upstream, leave it out with cache.layers, or set cache.features = false"
        )
