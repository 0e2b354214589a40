"""Made-up voices that differ as speakers do: pitch, length and timbre of the vocal tract, breath.

Pulses at a pitch, ringing at the resonances of vowels. A voice sounds alike in all of its
utterances, and no two utterances are the same. Source-filter synthesis after Fant (1960);
resonances of vowels after Peterson and Barney (1952).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform

VOWELS_HZ = {
    "i": (270, 2290, 3010),
    "a": (730, 1090, 2440),
    "u": (300, 870, 2240),
}
"""First three resonances of a vowel, of a tract of length 1."""

_FOURTH_HZ = 3500.0
_PITCH_HZ = (80.0, 260.0)
_BANDWIDTHS_HZ = (60.0, 90.0, 140.0, 200.0)
_RINGING_S = 0.025
_VOWEL_S = (0.08, 0.2)
_LEVEL = 0.1  # RMS


@dataclass(frozen=True)
class Voice:
    """What stays the same in all utterances of a speaker."""

    pitch_hz: float
    tract: float
    """Length of the vocal tract relative to VOWELS_HZ's: resonances are divided by it."""
    tilt: float
    """Loudness of each further resonance relative to the one below."""
    breath: float
    """Share of noise in the sound."""


def draw_voice(rng: random.Random) -> Voice:
    """A voice; a high one has rather a short tract, as people have."""
    low, high = _PITCH_HZ
    pitch = low * (high / low) ** rng.random()
    return Voice(
        pitch_hz=pitch,
        tract=1.25 * (low / pitch) ** 0.25 * rng.uniform(0.8, 1.2),
        tilt=rng.uniform(0.3, 1.2),
        breath=rng.uniform(0.01, 0.15),
    )


def say(voice: Voice, seconds: float, rng: random.Random) -> Waveform:
    """Vowels in that voice for so long; (samples,) at 16 kHz, RMS 0.1, without silence around."""
    samples = round(seconds * SAMPLE_RATE)
    ringing = {name: _ringing(voice, name) for name in sorted(VOWELS_HZ)}
    sound = np.zeros(samples + round(_RINGING_S * SAMPLE_RATE))
    position = 0.0
    while position < samples:
        vowel = ringing[rng.choice(sorted(ringing))]
        pitch = voice.pitch_hz * rng.uniform(0.92, 1.08)
        end = position + rng.uniform(*_VOWEL_S) * SAMPLE_RATE
        while position < min(end, samples):
            start = int(position)
            sound[start : start + len(vowel)] += vowel
            position += SAMPLE_RATE / (pitch * rng.uniform(0.99, 1.01))
    sound = sound[:samples]
    sound /= np.sqrt(np.mean(sound**2))
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(samples)
    breathy = _LEVEL * ((1 - voice.breath) * sound + voice.breath * noise)
    return np.asarray(breathy, dtype=np.float32)


def _ringing(voice: Voice, vowel: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What one pulse sounds like: a damped sine for each resonance."""
    time_s = np.arange(round(_RINGING_S * SAMPLE_RATE)) / SAMPLE_RATE
    resonances = (*VOWELS_HZ[vowel], _FOURTH_HZ)
    sines = [
        voice.tilt**number
        * np.exp(-np.pi * width * time_s)
        * np.sin(2 * np.pi * hertz / voice.tract * time_s)
        for number, (hertz, width) in enumerate(zip(resonances, _BANDWIDTHS_HZ, strict=True))
    ]
    return np.asarray(np.sum(sines, axis=0), dtype=np.float64)
