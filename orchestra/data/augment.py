"""Augmentation of one waveform. Pure: samples and what was drawn in, samples out.

Reads no file and draws nothing (augmenter.py does). Waveforms are (samples,) float32 at
SAMPLE_RATE; what comes out may pass [-1, 1], which nothing clips.
"""

from __future__ import annotations

import numpy as np
import soxr

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform


def change_speed(wav: Waveform, factor: float) -> Waveform:
    """Played `factor` times as fast, pitch included: about len(wav) / factor samples."""
    if factor == 1.0:
        return wav
    resampled: Waveform = soxr.resample(wav, SAMPLE_RATE * factor, SAMPLE_RATE)
    return resampled


def reverberate(wav: Waveform, impulse: Waveform) -> Waveform:
    """As long as `wav`; its direct sound keeps level and place, reflections are added.

    The direct sound is the impulse response's largest sample, which becomes 1 at delay 0. What
    sounds on after the end is cut off. `impulse` may not be silent.
    """
    direct = int(np.abs(impulse).argmax())
    size = _fast_size(len(wav) + len(impulse) - 1)
    spectrum = np.fft.rfft(wav, size) * np.fft.rfft(impulse / impulse[direct], size)
    convolved = np.fft.irfft(spectrum, size)
    return convolved[direct : direct + len(wav)].astype(np.float32)


def add_noise(wav: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """With `noise`, repeated where it is shorter, at this ratio of mean powers.

    Silence stays silence: no noise has a ratio to it. `noise` may not be silent.
    """
    fitted = np.resize(noise, len(wav))
    gain = np.sqrt(power(wav) / power(fitted) / 10 ** (snr_db / 10))
    return wav + np.float32(gain) * fitted


def crop(wav: Waveform, samples: int, place: float) -> Waveform:
    """`samples` of a longer waveform, from `place` in [0, 1) of where they may begin."""
    spare = len(wav) - samples
    if spare <= 0:
        return wav
    start = int(place * (spare + 1))
    return wav[start : start + samples]


def power(wav: Waveform) -> float:
    """Mean square."""
    return float(np.square(wav, dtype=np.float64).mean())


def _fast_size(least: int) -> int:
    """The smallest of 2^n and 3 * 2^n that is enough: a prime length costs many times as much."""
    whole = 1 << (least - 1).bit_length()
    return whole * 3 // 4 if whole * 3 // 4 >= least else whole
