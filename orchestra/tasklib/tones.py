"""Speech-like sounds for tiny corpora: each token is a pair of tones of its own, as if of formants.

Nobody would take them for speech; they let a head learn to spell within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestra.data import SAMPLE_RATE

LOW_HZ = np.geomspace(250, 900, 6)
HIGH_HZ = np.geomspace(1200, 3800, 8)
TOKENS = len(LOW_HZ) * len(HIGH_HZ)
"""So many tokens can be told apart."""

VOICES = (0.98, 1.02)
"""Lowest and highest of what a speaker multiplies all frequencies by."""

GAP_S = 0.02
"""Between two tokens, so that a doubled one is heard twice."""
_FADE_S = 0.015
_NOISE = 0.003


def spoken(
    tokens: Sequence[int | None], voice: float, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """(samples,) at 16 kHz: the tokens one after another, between two short silences.

    Args:
        tokens: numbers below `TOKENS`; None is a pause.
        voice: what all frequencies are multiplied by, within `VOICES`.
        generator: draws lengths, levels and phases.
    """
    gap = np.zeros(round(GAP_S * SAMPLE_RATE))
    parts = [np.zeros(round(0.05 * SAMPLE_RATE))]
    for token in tokens:
        length = round(generator.uniform(0.06, 0.1) * SAMPLE_RATE)
        parts += [_sound(token, length, voice, generator), gap]
    parts.append(np.zeros(round(0.05 * SAMPLE_RATE)))
    wave = np.concatenate(parts)
    wave += _NOISE * generator.standard_normal(len(wave))
    return wave.astype(np.float32)


def _sound(
    token: int | None, length: int, voice: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    if token is None:
        return np.zeros(length)
    high, low = divmod(token, len(LOW_HZ))
    time_s = np.arange(length) / SAMPLE_RATE
    phases = generator.uniform(0, 2 * np.pi, 2)
    tones = [
        np.sin(2 * np.pi * voice * hz * time_s + phase)
        for hz, phase in zip((LOW_HZ[low], HIGH_HZ[high]), phases, strict=True)
    ]
    edges = np.minimum(time_s, time_s[::-1]).clip(max=_FADE_S) / _FADE_S
    sound: npt.NDArray[np.float64] = generator.uniform(0.1, 0.2) * edges * (tones[0] + tones[1])
    return sound
