"""Features without parameters: filter banks, cepstra, spectra; one frame per 10 ms.

    fbank        log mel energies as Kaldi's compute-fbank-feats gives them
    mfcc         Kaldi's compute-mfcc-feats: cosine transform of 23 log mel energies, lifter 22,
                 the zeroth coefficient in the place of the energy
    spectrogram  Kaldi's compute-spectrogram-feats: 256 log powers behind the log raw energy
    mel          log of HTK mel energies of a centred STFT
    linear       log powers of a centred STFT
Behind each: deltas as Kaldi's compute-deltas, then mean and variance normalisation over each
utterance. Batched; no gradient is kept.

Kaldi reads 16-bit samples: those in [-1, 1] are scaled by 32768 for its features. Spectra are
float32, as Kaldi's: bands about 90 dB below a frame's peak, such as the upper half of recordings
resampled from 8 kHz, are rounding noise in both and may differ by some 1e-3. What follows is
float64, because a product's last bits depend on the batch it is computed in, and normalisation
would show them.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestra.config.schema import (
    FbankConfig,
    LinearConfig,
    MelConfig,
    MfccConfig,
    SpectralConfig,
    SpectrogramConfig,
)
from orchestra.upstreams.base import Features, Upstream, valid_mask
from orchestra.upstreams.framing import SHIFT, WINDOW
from orchestra.upstreams.spectrum import (
    KALDI_FFT,
    LOG_FLOOR,
    centred_frames,
    centred_power,
    hann_window,
    kaldi_frames,
    kaldi_power,
    mel_filters,
    povey_window,
)
from orchestra.wire.errors import UsageError

KEY = "hidden_states"
PCM_SCALE = 32768.0
KALDI_LOW_HZ = 20.0
CEPSTRAL_LIFTER = 22.0
POWER_FLOOR = 1e-10  # added before the logarithm where Kaldi is not followed
STD_FLOOR = 1e-3  # of log energies; below it a dimension is constant but for rounding
DELTA_WINDOW = 2  # frames on each side


class Spectral(Upstream):
    """What all kinds share; a kind gives its window and its static features."""

    stride = SHIFT
    min_samples = WINDOW
    window: Tensor
    taps: Tensor

    def __init__(self, config: SpectralConfig, static_dim: int, window: Tensor) -> None:
        super().__init__()
        self.name = config.kind
        self.dim = static_dim * (1 + config.deltas)
        self.cmvn = config.cmvn
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("taps", delta_filters(config.deltas), persistent=False)

    @abstractmethod
    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, dim) float64 features before deltas and normalisation."""

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of utterances of so many samples."""
        return kaldi_frames(lengths)

    def layer_dims(self, key: str) -> list[int]:
        """One layer, under "hidden_states"."""
        if key != KEY:
            raise UsageError(f"{self.name} has no output {key!r}; it has {KEY!r}")
        return [self.dim]

    @torch.no_grad()
    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """See `Upstream.forward`; padded frames are zero."""
        frame_lengths = self.frame_lengths(lengths)
        # Autocast would round the filters' products to bfloat16.
        with torch.autocast(wavs.device.type, enabled=False):
            features = self.static(wavs.float(), lengths)
            features = add_deltas(features, frame_lengths, self.taps)
            valid = valid_mask(frame_lengths, features.shape[1]).unsqueeze(2)
            if self.cmvn:
                features = normalize(features, valid, frame_lengths)
            features = features.masked_fill_(~valid, 0.0).float()
        return Features({KEY: [features]}, frame_lengths)


class Fbank(Spectral):
    """`config.mels` log energies."""

    mel: Tensor

    def __init__(self, config: FbankConfig) -> None:
        super().__init__(config, config.mels, PCM_SCALE * povey_window())
        mel = mel_filters(config.mels, KALDI_FFT, KALDI_LOW_HZ, "kaldi")
        self.register_buffer("mel", mel, persistent=False)

    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, mels) natural log energies."""
        return kaldi_log_mel(wavs, self.window, self.mel)


class Mfcc(Spectral):
    """`config.coefficients` cepstra; the first one is not replaced by the energy."""

    mel: Tensor
    cosines: Tensor

    def __init__(self, config: MfccConfig) -> None:
        super().__init__(config, config.coefficients, PCM_SCALE * povey_window())
        mel = mel_filters(config.mels, KALDI_FFT, KALDI_LOW_HZ, "kaldi")
        self.register_buffer("mel", mel, persistent=False)
        cosines = liftered_cosines(config.mels, config.coefficients)
        self.register_buffer("cosines", cosines, persistent=False)

    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, coefficients)."""
        return kaldi_log_mel(wavs, self.window, self.mel) @ self.cosines.double()


class Spectrogram(Spectral):
    """Log raw energy, and the log powers of all bands above the lowest."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__(config, KALDI_FFT // 2 + 1, povey_window())

    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, 257)."""
        powers, energies = kaldi_power(PCM_SCALE * wavs, self.window)
        powers[..., 0] = energies
        return powers.clamp_(min=LOG_FLOOR).double().log_()


class Centred(Spectral):
    """What kinds on a centred STFT share."""

    def __init__(self, config: SpectralConfig, static_dim: int) -> None:
        super().__init__(config, static_dim, hann_window(periodic=True))

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """One more than there are whole steps."""
        return centred_frames(lengths)

    def log_power(self, wavs: Tensor, lengths: Tensor, filters: Tensor | None) -> Tensor:
        """(batch, frames, dim)."""
        powers = centred_power(wavs, lengths, self.window).double()
        return ((powers if filters is None else powers @ filters.double()) + POWER_FLOOR).log_()


class Mel(Centred):
    """`config.mels` log energies."""

    mel: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__(config, config.mels)
        self.register_buffer("mel", mel_filters(config.mels, WINDOW, 0.0, "htk"), persistent=False)

    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, mels)."""
        return self.log_power(wavs, lengths, self.mel)


class Linear(Centred):
    """Log powers of all bands."""

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config, WINDOW // 2 + 1)

    def static(self, wavs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, 201)."""
        return self.log_power(wavs, lengths, None)


def build_spectral(config: SpectralConfig) -> Spectral:
    """The upstream of a config without weights."""
    match config:
        case FbankConfig():
            return Fbank(config)
        case MfccConfig():
            return Mfcc(config)
        case SpectrogramConfig():
            return Spectrogram(config)
        case MelConfig():
            return Mel(config)
        case LinearConfig():
            return Linear(config)


def kaldi_log_mel(wavs: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """(batch, samples) -> (batch, frames, mels) float64 natural log energies."""
    powers, _ = kaldi_power(wavs, window)
    energies = powers.double() @ filters.double()
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
    context = features.gather(1, time).unfold(1, taps.shape[1], 1)
    orders = context @ taps.to(features.dtype).T
    return orders.transpose(2, 3).reshape(batch, frames, dim * len(taps))


def normalize(features: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit (population) variance of each dimension over an utterance's own frames."""
    count = lengths.view(-1, 1, 1)
    mean = features.masked_fill(~valid, 0.0).sum(1, keepdim=True) / count
    centred = features - mean
    variance = centred.masked_fill(~valid, 0.0).square().sum(1, keepdim=True) / count
    return centred / variance.sqrt().clamp_(min=STD_FLOOR)


def liftered_cosines(mels: int, coefficients: int) -> Tensor:
    """(mels, coefficients): orthonormal DCT-II, coefficients scaled by 1 + 11 sin(pi k / 22)."""
    order = torch.arange(coefficients, dtype=torch.float64)
    band = torch.arange(mels, dtype=torch.float64).unsqueeze(1) + 0.5
    cosines = (math.pi / mels * band * order).cos() * math.sqrt(2 / mels)
    cosines[:, 0] = math.sqrt(1 / mels)
    lifter = 1 + 0.5 * CEPSTRAL_LIFTER * (math.pi * order / CEPSTRAL_LIFTER).sin()
    return (cosines * lifter).float()


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
