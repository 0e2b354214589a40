"""The toy voice: its keys decide every sample, words and speakers sound different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from orchestra.tasklib.tiny_voice import Manner, hiss, speak, write


def spectrum(wave: np.ndarray) -> np.ndarray:
    """Log energies of 40 bands."""
    power = np.abs(np.fft.rfft(wave, 16_000)) ** 2
    return np.log(power[:4000].reshape(40, 100).sum(1) + 1e-9)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(spectrum(one) - spectrum(other)).mean())


def test_the_same_keys_give_the_same_samples_and_each_key_counts() -> None:
    wave = speak(1, ["left"], "ann", "0")
    assert np.array_equal(wave, speak(1, ["left"], "ann", "0"))
    for other in (
        speak(2, ["left"], "ann", "0"),
        speak(1, ["right"], "ann", "0"),
        speak(1, ["left"], "bob", "0"),
        speak(1, ["left"], "ann", "1"),
        speak(1, ["left"], "ann", "0", Manner(pitch=1.2)),
    ):
        assert not np.array_equal(wave, other)


def test_takes_of_a_word_are_nearer_than_words() -> None:
    near = distance(speak(1, ["left"], "ann", "0"), speak(1, ["left"], "ann", "1"))
    assert near < distance(speak(1, ["left"], "ann", "0"), speak(1, ["stop"], "ann", "0"))


def test_what_is_written_is_sound_without_clipping(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "a.wav", speak(1, ["a", "b"], "ann", "0", Manner(loudness=2.0)))
    samples, rate = soundfile.read(tmp_path / "deep" / "a.wav")
    assert rate == 16_000
    assert 0.7 <= len(samples) / rate <= 1.2
    assert 0.1 < np.abs(samples).max() < 0.9


def test_noise_has_its_length_and_its_own_colour() -> None:
    assert len(hiss(1, "tap", 1.5)) == 24_000
    assert distance(hiss(1, "tap", 1.0), hiss(1, "fan", 1.0)) > 0.1
