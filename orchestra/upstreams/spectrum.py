"""Short-time power spectra of padded batches, and filters over them. Knows of no config.

Two ways to cut an utterance into windows of 25 ms every 10 ms (16 kHz):
    Kaldi's     whole windows only, each without its mean, pre-emphasised, Povey or Hann window,
                512-point spectrum (feat/feature-window of Kaldi, `snip_edges`, no dither)
    centred     window t is centred on sample 160 t, the utterance is reflected at both ends, Hann
                window, 400-point spectrum (torch.stft's and librosa's default; Whisper's)
Frames of an utterance never depend on the padding behind it: the second reflects at each row's
own end.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.framing import SHIFT, WINDOW

KALDI_FFT = 512
PREEMPHASIS = 0.97
LOG_FLOOR = torch.finfo(torch.float32).eps  # Kaldi's


def povey_window() -> Tensor:
    """A symmetric Hann window to the power 0.85: it does not fall to zero as fast."""
    return _hann(WINDOW - 1).pow(0.85).float()


def hann_window(*, periodic: bool = False) -> Tensor:
    """(WINDOW,); Kaldi's is symmetric, that of a centred STFT periodic."""
    return _hann(WINDOW if periodic else WINDOW - 1).float()


def _hann(period: int) -> Tensor:
    phase = 2 * math.pi * torch.arange(WINDOW, dtype=torch.float64) / period
    return 0.5 - 0.5 * phase.cos()


def kaldi_frames(lengths: Tensor) -> Tensor:
    """Whole windows of each utterance."""
    return (lengths - WINDOW) // SHIFT + 1


def kaldi_power(wavs: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Power spectra and energies of whole windows.

    Returns:
        (batch, frames, KALDI_FFT / 2 + 1), and (batch, frames): the energy of each window without
        its mean, before pre-emphasis and window (Kaldi's raw energy).
    """
    frames = wavs.unfold(1, WINDOW, SHIFT)
    frames = frames - frames.mean(dim=2, keepdim=True)
    # Pre-emphasis and window in one pass: w[i] * (x[i] - 0.97 * x[i - 1]); w[0] is zero.
    shaped = frames * window
    shaped[..., 1:].addcmul_(frames[..., :-1], window[1:], value=-PREEMPHASIS)
    return power(shaped, KALDI_FFT), frames.square().sum(2)


def centred_frames(lengths: Tensor) -> Tensor:
    """Windows whose centre lies in the utterance or at its very end."""
    return lengths // SHIFT + 1


def centred_power(wavs: Tensor, lengths: Tensor, window: Tensor) -> Tensor:
    """(batch, frames, WINDOW / 2 + 1) power spectra of centred windows.

    Each utterance needs more than WINDOW / 2 samples to be reflected.
    """
    reach = WINDOW // 2
    time = torch.arange(-reach, wavs.shape[1] + reach, device=wavs.device).abs()
    last = (lengths - 1).unsqueeze(1)
    # What lies behind the reflection belongs to padded frames alone.
    time = torch.where(time > last, 2 * last - time, time).clamp(min=0)
    return power(wavs.gather(1, time).unfold(1, WINDOW, SHIFT) * window, WINDOW)


def power(frames: Tensor, points: int) -> Tensor:
    """(..., samples) -> (..., points / 2 + 1)."""
    spectrum: Tensor = torch.fft.rfft(frames, n=points)
    return spectrum.real.square() + spectrum.imag.square()


def mel_filters(
    mels: int, points: int, low_hz: float, scale: Literal["kaldi", "htk", "slaney"]
) -> Tensor:
    """(points / 2 + 1, mels): triangles over power spectra, equally spaced up to Nyquist.

    "kaldi" triangles are linear on the mel scale, "htk" ones in hertz on the same scale; "slaney"
    (Auditory Toolbox, librosa) has a scale that is linear below 1 kHz and triangles of one area.
    """
    to_mel, to_hertz = (_slaney_mel, _slaney_hertz) if scale == "slaney" else (_htk_mel, _htk_hertz)
    low, high = to_mel(torch.tensor([low_hz, SAMPLE_RATE / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, mels + 2, dtype=torch.float64)
    bins = torch.arange(points // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / points
    if scale == "kaldi":
        bins = to_mel(bins)
    else:
        edges = to_hertz(edges)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins.unsqueeze(1) - left) / (centre - left)
    falling = (right - bins.unsqueeze(1)) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_(min=0)
    if scale == "slaney":
        filters *= 2 / (right - left)
    return filters.float()


def _htk_mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def _htk_hertz(mel: Tensor) -> Tensor:
    return 700.0 * torch.expm1(mel / 1127.0)


_KNEE_HZ, _HZ_PER_MEL, _KNEE_MEL = 1000.0, 200.0 / 3, 15.0
_LOG_STEP = math.log(6.4) / 27


def _slaney_mel(hertz: Tensor) -> Tensor:
    curved = _KNEE_MEL + (hertz.clamp(min=_KNEE_HZ) / _KNEE_HZ).log() / _LOG_STEP
    return torch.where(hertz < _KNEE_HZ, hertz / _HZ_PER_MEL, curved)


def _slaney_hertz(mel: Tensor) -> Tensor:
    curved = _KNEE_HZ * ((mel - _KNEE_MEL) * _LOG_STEP).exp()
    return torch.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, curved)
