"""Tries a user's own upstream on noise, so that a broken promise is known before a run is queued.

What a rank would notice late or never: a stride that the frames don't keep, values that are not
finite, features that depend on the batch. On the CPU, with two utterances of about a second.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.base import Features
from orchestra.upstreams.own import OwnUpstream, mistakes

_SPARE = 2
"""Frames that there may be more or fewer than stride and min_samples tell: ends are handled in
many ways."""
_TOLERANCE = 1e-4
"""How far features may move beside others, of their largest value: float32, any layers."""


@torch.no_grad()
def try_out(upstream: OwnUpstream, code: Path) -> None:
    """Compare a batch with each of its utterances alone.

    Args:
        upstream: a frozen one.
        code: the folder that the file lies in.

    Raises:
        UsageError: a promise is broken, or the code has a mistake; names file and line.
    """
    longest = max(SAMPLE_RATE, 4 * upstream.min_samples)
    lengths = torch.tensor([longest, longest * 5 // 8])
    generator = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(2, longest, generator=generator)
    wavs[1, int(lengths[1]) :] = 1.0  # padding may hold anything
    with mistakes(code / upstream.config.source, upstream.config.source):
        try:
            together = upstream(wavs, lengths)
            alone = [upstream(wavs[row, None, :n], lengths[row, None]) for row, n in _rows(lengths)]
        except (RuntimeError, AssertionError):
            return  # some code runs on GPUs alone; a rank says what it raises
    for row, samples in _rows(lengths):
        _check_stride(upstream, samples, int(together.lengths[row]))
        _check_finite(upstream, alone[row], samples)
        _check_independence(upstream, together, alone[row], row)


def _rows(lengths: Tensor) -> list[tuple[int, int]]:
    return list(enumerate(lengths.tolist()))


def _check_stride(upstream: OwnUpstream, samples: int, frames: int) -> None:
    stride = upstream.stride
    least, most = (samples - upstream.min_samples) // stride + 1, samples // stride
    if not least - _SPARE <= frames <= most + _SPARE:
        raise upstream.wrong(
            f"{samples} samples gave {frames} frames, but stride = {stride} and min_samples = "
            f"{upstream.min_samples} promise about {most}"
        )


def _check_finite(upstream: OwnUpstream, features: Features, samples: int) -> None:
    for number, layer in enumerate(features.layers[upstream.config.key]):
        if not layer[:, : int(features.lengths[0])].isfinite().all():
            raise upstream.wrong(f"layer {number} of {samples} samples of noise is not finite")


def _check_independence(
    upstream: OwnUpstream, together: Features, alone: Features, row: int
) -> None:
    frames, key = int(alone.lengths[0]), upstream.config.key
    if frames != int(together.lengths[row]):
        raise upstream.wrong(
            f"an utterance has {frames} frames alone and {int(together.lengths[row])} in a batch"
        )
    for number, (layer, own) in enumerate(
        zip(together.layers[key], alone.layers[key], strict=True)
    ):
        moved = float((layer[row, :frames] - own[0, :frames]).abs().max())
        if moved > _TOLERANCE * float(own[0, :frames].abs().max()):
            raise upstream.wrong(
                f"layer {number} of an utterance moves by {moved:.2g} in a batch: padding, or "
                "chance, is in it; use lengths to keep them out"
            )
