"""A toy voice for tiny corpora: harmonics under three resonances, whatever a word's text is.

A word is a few vowel-like sounds drawn from its text, a speaker has a pitch and a length of vocal
tract, a take its own tempo, level and noise. Nobody would understand it; what can be told apart is
what the keys say, and length tells nothing. The same keys give the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform
from orchestra.data.keyed import keyed

_SOUNDS = 3
"""In a word."""
_FIRST_HZ, _SECOND_HZ, _THIRD_HZ = (280.0, 850.0), (900.0, 2400.0), (2500.0, 3000.0)
_WIDTH_HZ = np.array([90.0, 130.0, 200.0])
_HIGHEST_HZ = 3800.0
_PITCH_HZ = (90.0, 240.0)
_TRACT = (0.88, 1.14)
"""Factor on resonances."""
_NOISE = 0.003
_KNOT = 80
"""Samples from one place at which loudness is computed to the next; linear in between."""

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Manner:
    """How something is said, relative to a speaker's habit."""

    pitch: float = 1.0
    rise: float = 0.0
    """Octaves from the first sample to the last."""
    swing: float = 0.0
    """Octaves that the pitch swings up and down."""
    tempo: float = 1.0
    loudness: float = 1.0
    brightness: float = 0.0
    """dB per 1,000 Hz added to the spectrum."""


def speak(
    seed: int, words: Sequence[str], speaker: str, take: str, manner: Manner | None = None
) -> Waveform:
    """The words, one after another: 16 kHz mono, 0.35 s to 0.6 s each at tempo 1."""
    manner = manner or Manner()
    draw = _generator(seed, "take", *words, speaker, take)
    sounds = [_word(seed, word, draw) for word in words]
    targets = np.concatenate([targets for targets, _ in sounds])
    durations_s = np.concatenate([durations for _, durations in sounds]) / manner.tempo
    samples = np.maximum(1, np.round(durations_s * SAMPLE_RATE)).astype(int)
    return _voiced(seed, speaker, targets, samples, draw, manner)


def write(path: Path, samples: Waveform) -> None:
    """A 16-bit WAV file, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")


def hiss(seed: int, name: str, duration_s: float) -> Waveform:
    """Noise of a colour of its own."""
    draw = _generator(seed, "hiss", name)
    white = draw.standard_normal(round(duration_s * SAMPLE_RATE))
    colour = draw.uniform(0.0, 0.9)
    smooth = np.convolve(white, colour ** np.arange(32), mode="same")
    return np.asarray(0.02 * smooth / smooth.std(), np.float32)


def _generator(seed: int, *keys: str) -> np.random.Generator:
    return np.random.default_rng(keyed(seed, *keys))


def _word(seed: int, word: str, take: np.random.Generator) -> tuple[Curve, Curve]:
    """(sounds, 3) resonances in Hz and (sounds,) durations in seconds, as this take has them."""
    draw = _generator(seed, "word", word)
    ranges = np.array([_FIRST_HZ, _SECOND_HZ, _THIRD_HZ])
    targets = draw.uniform(ranges[:, 0], ranges[:, 1], (_SOUNDS, 3))
    durations_s = take.dirichlet(np.full(_SOUNDS, 20.0)) * take.uniform(0.35, 0.6)
    return targets * take.normal(1.0, 0.02, (_SOUNDS, 3)), durations_s


def _voiced(
    seed: int,
    speaker: str,
    targets: Curve,
    samples: npt.NDArray[np.int64],
    draw: np.random.Generator,
    manner: Manner,
) -> Waveform:
    """Harmonics of the pitch, as loud as the resonances let them be."""
    voice = _generator(seed, "speaker", speaker)
    low, high = _PITCH_HZ
    pitch_hz = low * (high / low) ** voice.uniform() * manner.pitch * draw.normal(1.0, 0.03)
    tract = voice.uniform(*_TRACT)
    count = int(samples.sum())
    place = np.arange(count) / count
    octaves = manner.rise * (place - 0.5) + manner.swing * np.sin(
        2 * np.pi * (2.5 * place + draw.uniform())
    )
    phase = 2 * np.pi * np.cumsum(pitch_hz * 2**octaves) / SAMPLE_RATE
    # Resonances glide from the middle of one sound to that of the next.
    middles = np.cumsum(samples) - samples / 2
    knots = np.arange(0, count + _KNOT, _KNOT)
    tracks = np.stack([np.interp(knots, middles, row * tract) for row in targets.T])
    wave = np.zeros(count)
    fundamental = np.exp(1j * phase)
    turning = np.ones(count, complex)
    for harmonic in range(1, int(_HIGHEST_HZ / pitch_hz) + 1):
        hz = harmonic * pitch_hz
        peaks = np.exp(-(((hz - tracks) / _WIDTH_HZ[:, None]) ** 2)).sum(0)
        tilt = 10 ** (manner.brightness * hz / 20_000)
        turning *= fundamental  # cheaper than a sine of each harmonic
        wave += _between(tilt * (0.02 + peaks) / harmonic**0.5)[:count] * turning.imag
    envelope = np.interp(np.arange(count), [0, 400, count - 800, count - 1], [0.0, 1.0, 1.0, 0.0])
    level = 0.1 * manner.loudness * draw.uniform(0.8, 1.25)
    wave = level * envelope * wave / np.abs(wave).max() + _NOISE * draw.standard_normal(count)
    return np.asarray(wave, np.float32)


def _between(values: Curve) -> Curve:
    """Values at knots, linear in between."""
    share = np.arange(_KNOT) / _KNOT
    return (values[:-1, None] * (1 - share) + values[1:, None] * share).ravel()
