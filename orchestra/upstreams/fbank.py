"""Log mel filter banks with deltas and per-utterance normalisation, as Kaldi computes them.

Batched and without parameters; no gradient is kept. Samples in [-1, 1] are scaled by 32768 first,
so that values equal those of Kaldi reading the same recording as 16-bit PCM.

Definitions: feat/feature-window, mel-computations and feature-functions of Kaldi; 25 ms Povey
window every 10 ms, no dither, DC offset removed per frame, pre-emphasis 0.97, 512-point power
spectrum, triangles from 20 Hz to Nyquist, natural log; `snip_edges`: whole windows only.

Float32, as Kaldi: bands about 90 dB below a frame's peak, such as the upper half of recordings
resampled from 8 kHz, are rounding noise in both and may differ by some 1e-3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestra.config.schema import FbankConfig
from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.base import Features, Upstream, valid_mask
from orchestra.wire.errors import UsageError

WINDOW = 400  # samples: 25 ms
SHIFT = 160  # samples: 10 ms
FFT_SIZE = 512
LOW_HZ = 20.0
PREEMPHASIS = 0.97
PCM_SCALE = 32768.0
LOG_FLOOR = torch.finfo(torch.float32).eps
STD_FLOOR = 1e-3  # of log energies; below it a dimension is constant but for rounding
DELTA_WINDOW = 2  # frames on each side

KEY = "hidden_states"


class Fbank(Upstream):
    """`config.mels` log energies per 10 ms, and their deltas behind them."""

    stride = SHIFT
    min_samples = WINDOW

    def __init__(self, config: FbankConfig) -> None:
        super().__init__()
        self.dim = config.mels * (1 + config.deltas)
        self.cmvn = config.cmvn
        self.window: Tensor
        self.mel: Tensor
        self.taps: Tensor
        self.register_buffer("window", PCM_SCALE * povey_window(), persistent=False)
        self.register_buffer("mel", mel_filters(config.mels), persistent=False)
        self.register_buffer("taps", delta_filters(config.deltas), persistent=False)

    def layer_dims(self, key: str) -> list[int]:
        """One layer, under "hidden_states"."""
        if key != KEY:
            raise UsageError(f"fbank has no output {key!r}; it has {KEY!r}")
        return [self.dim]

    @torch.no_grad()
    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """See `Upstream.forward`; padded frames are zero."""
        frame_lengths = (lengths - WINDOW) // SHIFT + 1
        # Autocast would round the filter bank's product to bfloat16.
        with torch.autocast(wavs.device.type, enabled=False):
            features = log_mel(wavs.float(), self.window, self.mel)
            features = add_deltas(features, frame_lengths, self.taps)
            valid = valid_mask(frame_lengths, features.shape[1]).unsqueeze(2)
            if self.cmvn:
                features = normalize(features, valid, frame_lengths)
            features = features.masked_fill_(~valid, 0.0)
        return Features({KEY: [features]}, frame_lengths)


def log_mel(wavs: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """(batch, samples) in [-1, 1] -> (batch, frames, mels) natural log energies."""
    frames = wavs.unfold(1, WINDOW, SHIFT)
    frames = frames - frames.mean(dim=2, keepdim=True)
    # Pre-emphasis and window in one pass: w[i] * (x[i] - 0.97 * x[i - 1]); w[0] is zero.
    shaped = frames * window
    shaped[..., 1:].addcmul_(frames[..., :-1], window[1:], value=-PREEMPHASIS)
    spectrum = torch.fft.rfft(shaped, n=FFT_SIZE)[..., :-1]
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    energies: Tensor = power @ filters
    return energies.clamp_(min=LOG_FLOOR).log_()


def add_deltas(features: Tensor, lengths: Tensor, taps: Tensor) -> Tensor:
    """(batch, frames, dim) -> (batch, frames, dim * orders), orders side by side.

    Frames before the first and after the last valid one repeat it, as in Kaldi's compute-deltas.
    """
    if len(taps) == 1:
        return features
    batch, frames, dim = features.shape
    reach = taps.shape[1] // 2
    time = torch.arange(-reach, frames + reach, device=features.device).clamp_(min=0)
    time = torch.minimum(time, (lengths - 1).unsqueeze(1)).unsqueeze(2).expand(-1, -1, dim)
    context = features.gather(1, time).unsqueeze(1)
    orders = F.conv2d(context, taps[:, None, :, None])
    return orders.transpose(1, 2).reshape(batch, frames, dim * len(taps))


def normalize(features: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit (population) variance of each dimension over an utterance's own frames."""
    count = lengths.view(-1, 1, 1)
    mean = features.masked_fill(~valid, 0.0).sum(1, keepdim=True) / count
    centred = features - mean
    variance = centred.masked_fill(~valid, 0.0).square().sum(1, keepdim=True) / count
    return centred / variance.sqrt().clamp_(min=STD_FLOOR)


def povey_window() -> Tensor:
    """A Hann window to the power 0.85: it does not fall to zero as fast."""
    phase = 2 * math.pi * torch.arange(WINDOW, dtype=torch.float64) / (WINDOW - 1)
    return (0.5 - 0.5 * phase.cos()).pow(0.85).float()


def mel_filters(mels: int) -> Tensor:
    """(FFT_SIZE / 2, mels): triangles equally spaced, and linear, on the mel scale."""

    def to_mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    low, high = to_mel(torch.tensor([LOW_HZ, SAMPLE_RATE / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = torch.arange(FFT_SIZE // 2, dtype=torch.float64) * SAMPLE_RATE / FFT_SIZE
    mel = to_mel(hertz).unsqueeze(1)
    rising = (mel - left) / (centre - left)
    falling = (right - mel) / (right - centre)
    return torch.minimum(rising, falling).clamp_(min=0).float()


def delta_filters(order: int) -> Tensor:
    """(order + 1, taps): identity, regression slope, slope of the slope ..., zero padded.

    Order n convolves the slope's filter n times; it is applied to the features themselves.
    """
    offsets = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, dtype=torch.float64)
    slope = offsets / offsets.square().sum()
    filters = torch.zeros(order + 1, 2 * DELTA_WINDOW * order + 1, dtype=torch.float64)
    filters[0, DELTA_WINDOW * order] = 1.0
    for n in range(1, order + 1):
        # conv1d correlates, so the slope's filter needs no flip.
        previous = filters[n - 1].view(1, 1, -1)
        wide = F.conv1d(previous, slope.flip(0).view(1, 1, -1), padding=DELTA_WINDOW)
        filters[n] = wide.flatten()
    return filters.float()
