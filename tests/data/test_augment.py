"""Augmentation of one waveform against what its definition says."""

from __future__ import annotations

import numpy as np
import pytest

from orchestra.data import SAMPLE_RATE
from orchestra.data.augment import add_noise, change_speed, crop, power, reverberate


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 17.5])
@pytest.mark.parametrize("length", [400, 5000, 9000])
def test_the_measured_ratio_is_the_one_asked_for(snr_db: float, length: int) -> None:
    """Also where the noise is shorter than the speech, and is repeated."""
    wav = noise(5000)
    mixed = add_noise(wav, 3 * noise(length, 1), snr_db)
    assert mixed.dtype == np.float32
    added = mixed - wav
    assert 10 * np.log10(power(wav) / power(added)) == pytest.approx(snr_db, abs=1e-3)
    if length == 400:
        np.testing.assert_allclose(added[:400], added[400:800], atol=1e-6)


def test_silence_gets_no_noise() -> None:
    assert not add_noise(np.zeros(100, np.float32), noise(100), 5.0).any()


@pytest.mark.parametrize("direct", [0, 7, 120])
@pytest.mark.parametrize("samples", [50, 1001, 4096])
def test_a_room_is_the_convolution_with_its_direct_sound_at_delay_0(
    direct: int, samples: int
) -> None:
    wav, impulse = noise(samples), 0.2 * noise(300, 1)
    impulse[direct] = -0.7
    heard = reverberate(wav, impulse)
    wanted = np.convolve(wav.astype(float), impulse.astype(float) / -0.7)[direct:][:samples]
    assert heard.dtype == np.float32
    assert heard.shape == wav.shape
    np.testing.assert_allclose(heard, wanted, atol=2e-6)


def test_a_room_without_reflections_changes_nothing_however_late_and_quiet_it_is() -> None:
    wav, impulse = noise(2000), np.zeros(900, np.float32)
    impulse[450] = 0.003
    np.testing.assert_allclose(reverberate(wav, impulse), wav, atol=1e-6)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25])
def test_speed_changes_length_and_pitch_by_its_factor(factor: float) -> None:
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wav = np.sin(2 * np.pi * 1000 * seconds).astype(np.float32)
    made = change_speed(wav, factor)
    assert made.dtype == np.float32
    assert abs(len(made) - len(wav) / factor) <= 1
    peak_hz = np.abs(np.fft.rfft(made)).argmax() * SAMPLE_RATE / len(made)
    assert peak_hz == pytest.approx(1000 * factor, abs=1.5)


def test_speed_1_is_the_recording_itself() -> None:
    wav = noise(100)
    assert change_speed(wav, 1.0) is wav


def test_a_crop_lies_anywhere_and_what_is_shorter_stays_whole() -> None:
    wav = np.arange(10, dtype=np.float32)
    starts = {crop(wav, 4, place)[0] for place in np.linspace(0, 0.999, 70)}
    assert starts == set(range(7))
    assert crop(wav, 4, 0.5).tolist() == [3, 4, 5, 6]
    assert crop(wav, 10, 0.9).tolist() == wav.tolist()
    assert crop(wav, 99, 0.9).tolist() == wav.tolist()
