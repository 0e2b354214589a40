"""Sounds of tiny corpora: each token is heard at frequencies of its own, in order."""

from __future__ import annotations

import numpy as np

from orchestra.data import SAMPLE_RATE
from orchestra.tasklib.tones import HIGH_HZ, LOW_HZ, TOKENS, spoken


def loudest_hz(wave: np.ndarray, low: float, high: float) -> float:
    """Where the spectrum is highest between two frequencies."""
    spectrum = np.abs(np.fft.rfft(wave, 1 << 15))
    hz = np.fft.rfftfreq(1 << 15, 1 / SAMPLE_RATE)
    return float(hz[np.argmax(spectrum * ((hz > low) & (hz < high)))])


def test_each_token_has_its_pair_of_tones() -> None:
    heard = set()
    for token in range(TOKENS):
        wave = spoken([token], 1.0, np.random.default_rng(token))
        low, high = loudest_hz(wave, 100, 1000), loudest_hz(wave, 1100, 4000)
        heard.add((np.abs(LOW_HZ - low).argmin(), np.abs(HIGH_HZ - high).argmin()))
        assert np.abs(LOW_HZ - low).min() < 15
        assert np.abs(HIGH_HZ - high).min() < 15
    assert len(heard) == TOKENS


def test_a_voice_moves_all_tones() -> None:
    usual, raised = (spoken([3], voice, np.random.default_rng(1)) for voice in (1.0, 1.02))
    moved = loudest_hz(raised, 1100, 4000) / loudest_hz(usual, 1100, 4000)
    assert abs(moved - 1.02) < 0.005


def test_between_tokens_and_in_pauses_it_is_quiet() -> None:
    wave = spoken([0, None, 0], 1.0, np.random.default_rng(1))
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160).std(1)
    loud = (frames > 0.02).astype(int)
    assert (np.diff(loud) == 1).sum() == 2
    assert spoken([0], 1.0, np.random.default_rng(1)).dtype == np.float32
