"""Spectral features against independent oracles, and promises of our own: batches, padding."""

from __future__ import annotations

from collections.abc import Callable

import kaldi_native_fbank
import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from orchestra.config.schema import (
    FbankConfig,
    LinearConfig,
    MelConfig,
    MfccConfig,
    SpectralConfig,
    SpectrogramConfig,
)
from orchestra.config.upstream_table import UPSTREAMS, UpstreamInfo
from orchestra.upstreams import build_upstream
from orchestra.upstreams.spectral import add_deltas, delta_filters
from orchestra.wire.errors import DataError, UsageError

LENGTHS = [400, 559, 560, 4321, 16000, 12000, 640, 9999]


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Harmonics with a moving pitch, an envelope and noise, rounded to 16 bits."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples, dtype=torch.float64) / 16000
    pitch = 120 + 40 * torch.sin(2 * np.pi * 2 * time)
    phase = 2 * np.pi * torch.cumsum(pitch / 16000, 0)
    voice = torch.stack([torch.sin(k * phase) / k for k in range(1, 40)]).sum(0)
    envelope = 0.55 - 0.45 * torch.cos(2 * np.pi * 3 * time)
    noise = torch.randn(samples, generator=generator, dtype=torch.float64)
    wav = 0.1 * envelope * voice + 0.003 * noise
    return ((wav * 32768).round() / 32768).float()


def padded(lengths: list[int], fill: float = 0.0) -> tuple[Tensor, Tensor]:
    wavs = torch.full((len(lengths), max(lengths) + 77), fill)
    for row, samples in enumerate(lengths):
        wavs[row, :samples] = speechlike(samples, seed=row)
    return wavs, torch.tensor(lengths)


def fbank(wavs: Tensor, lengths: Tensor, **config: int | bool) -> tuple[Tensor, Tensor]:
    features = build_upstream(FbankConfig.model_validate(config))(wavs, lengths)
    return features.layers["hidden_states"][0], features.lengths


def kaldi(wav: Tensor, mels: int = 80) -> npt.NDArray[np.float32]:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = mels
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = 0.0
    oracle = kaldi_native_fbank.OnlineFbank(options)
    oracle.accept_waveform(16000, (wav * 32768).tolist())
    oracle.input_finished()
    return np.stack([oracle.get_frame(i) for i in range(oracle.num_frames_ready)])


@pytest.mark.parametrize("mels", [80, 23])
def test_a_padded_batch_equals_kaldi(mels: int) -> None:
    wavs, lengths = padded(LENGTHS, fill=0.3)
    features, frames = fbank(wavs, lengths, mels=mels, deltas=0, cmvn=False)
    assert features.shape[1] == max(frames)
    for row, samples in enumerate(LENGTHS):
        expected = kaldi(wavs[row, :samples], mels)
        assert len(expected) == frames[row]
        np.testing.assert_allclose(features[row, : frames[row]], expected, atol=1e-3, rtol=0)
        assert not features[row, frames[row] :].any()


def test_silence_equals_kaldis_floor() -> None:
    features, _ = fbank(torch.zeros(1, 1000), torch.tensor([1000]), deltas=0, cmvn=False)
    np.testing.assert_allclose(features[0], kaldi(torch.zeros(1000)), atol=1e-5)


def kaldi_deltas(features: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
    """compute-deltas, written from its definition: scales by recursion, indices clamped."""
    scales = [{0: 1.0}]
    for _ in range(order):
        following: dict[int, float] = {}
        for offset, scale in scales[-1].items():
            for shift in range(-2, 3):
                following[offset + shift] = following.get(offset + shift, 0.0) + scale * shift / 10
        scales.append(following)
    last = len(features) - 1
    return np.array(
        [
            np.concatenate(
                [
                    sum(s * features[min(max(t + o, 0), last)] for o, s in scale.items())
                    for scale in scales
                ]
            )
            for t in range(len(features))
        ]
    )


def random_features(lengths: list[int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(lengths), max(lengths), 3, generator=generator)


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_repeat_the_utterances_own_last_frame(order: int) -> None:
    lengths = [1, 2, 5, 30]
    features = random_features(lengths)  # what lies in the padding must not matter
    deltas = add_deltas(features, torch.tensor(lengths), delta_filters(order))
    assert deltas.shape[2] == 3 * (order + 1)
    for row, frames in enumerate(lengths):
        expected = kaldi_deltas(features[row, :frames].double().numpy(), order)
        np.testing.assert_allclose(deltas[row, :frames], expected, atol=1e-5)


def test_deltas_that_ran_into_the_padding_would_be_noticed() -> None:
    features = random_features([20, 30])
    deltas = add_deltas(features, torch.tensor([30, 30]), delta_filters(2))
    expected = kaldi_deltas(features[0, :20].double().numpy(), 2)
    assert np.abs(deltas[0, :20].numpy() - expected).max() > 0.1


def test_default_is_80_mels_with_two_deltas_normalised_over_valid_frames() -> None:
    wavs, lengths = padded([16000, 12000, 4321])
    features, frames = fbank(wavs, lengths)
    assert features.shape[2] == 240
    for row, count in enumerate(frames):
        valid = features[row, :count]
        torch.testing.assert_close(valid.mean(0), torch.zeros(240), atol=1e-4, rtol=0)
        spread = valid.std(0, correction=0)
        torch.testing.assert_close(spread, torch.ones(240), atol=1e-3, rtol=0)


def test_silence_is_normalised_to_zeros_not_to_noise() -> None:
    features, _ = fbank(torch.zeros(2, 5000), torch.tensor([5000, 700]))
    assert features.abs().max() < 0.05


def test_autocast_does_not_round_the_features() -> None:
    wavs, lengths = padded([8000])
    plain, _ = fbank(wavs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = fbank(wavs, lengths)
    assert torch.equal(plain, mixed)


def kaldi_mfcc(wav: Tensor) -> npt.NDArray[np.float32]:
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 23
    options.num_ceps = 13
    options.use_energy = False
    oracle = kaldi_native_fbank.OnlineMfcc(options)
    oracle.accept_waveform(16000, (wav * 32768).tolist())
    oracle.input_finished()
    return np.stack([oracle.get_frame(i) for i in range(oracle.num_frames_ready)])


def kaldi_spectrogram(wav: Tensor) -> npt.NDArray[np.float64]:
    """compute-spectrogram-feats, written from its definition in float64."""
    samples = wav.double().numpy() * 32768
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400]
        frame = frame - frame.mean()
        energy = (frame**2).sum()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        powers = np.abs(np.fft.rfft(frame * window, 512)) ** 2
        powers[0] = energy
        rows.append(np.log(np.maximum(powers, np.finfo(np.float32).eps)))
    return np.stack(rows)


def stft_power(wav: Tensor) -> npt.NDArray[np.float64]:
    window = torch.hann_window(400, dtype=torch.float64)
    spectrum = torch.stft(wav.double(), 400, 160, window=window, return_complex=True)
    power: npt.NDArray[np.float64] = spectrum.abs().square().T.numpy()
    return power


def stft_linear(wav: Tensor) -> npt.NDArray[np.float64]:
    return np.log(stft_power(wav) + 1e-10)


def stft_mel(wav: Tensor) -> npt.NDArray[np.float64]:
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82) / 2595) - 1)
    bands = np.linspace(0, 8000, 201)
    filters = [
        np.interp(bands, edges[i : i + 3], [0.0, 1.0, 0.0], left=0.0, right=0.0) for i in range(80)
    ]
    return np.log(stft_power(wav) @ np.stack(filters).T + 1e-10)


KIN = [
    pytest.param(MfccConfig(deltas=0, cmvn=False), kaldi_mfcc, 13, id="mfcc"),
    pytest.param(SpectrogramConfig(cmvn=False), kaldi_spectrogram, 257, id="spectrogram"),
    pytest.param(MelConfig(cmvn=False), stft_mel, 80, id="mel"),
    pytest.param(LinearConfig(cmvn=False), stft_linear, 201, id="linear"),
]


def extract(config: SpectralConfig, wavs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    features = build_upstream(config)(wavs, lengths)
    return features.layers["hidden_states"][0], features.lengths


@pytest.mark.parametrize(("config", "oracle", "dim"), KIN)
def test_a_padded_batch_equals_the_oracle_of_each_utterance(
    config: SpectralConfig, oracle: Callable[[Tensor], npt.NDArray[np.float64]], dim: int
) -> None:
    wavs, lengths = padded(LENGTHS, fill=0.3)
    features, frames = extract(config, wavs, lengths)
    assert features.shape == (len(LENGTHS), int(frames.max()), dim)
    for row, samples in enumerate(LENGTHS):
        expected = oracle(wavs[row, :samples])
        assert len(expected) == frames[row]
        ours = features[row, : frames[row]].double().numpy()
        if config.kind == "mfcc":
            np.testing.assert_allclose(ours, expected, atol=5e-3, rtol=0)
        else:  # 90 dB below the peak float32 is rounding noise: compared as powers
            ours, expected = np.exp(ours), np.exp(expected)
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-8 * expected.max())
        assert not features[row, frames[row] :].any()


DEFAULTS = [
    pytest.param(config, dim, id=config.kind)
    for config, dim in [
        (FbankConfig(), 240),
        (MfccConfig(), 39),
        (MelConfig(), 80),
        (LinearConfig(), 201),
        (SpectrogramConfig(), 257),
    ]
]


@pytest.mark.parametrize(("config", "dim"), DEFAULTS)
def test_default_dimensions_are_s3prls_and_padding_changes_nothing(
    config: SpectralConfig, dim: int
) -> None:
    wavs, lengths = padded(LENGTHS, fill=0.7)
    together, frames = extract(config, wavs, lengths)
    assert build_upstream(config).layer_dims("hidden_states") == [dim]
    assert together.shape[2] == dim
    for row, samples in enumerate(LENGTHS):
        alone, alone_frames = extract(config, wavs[row : row + 1, :samples], lengths[row : row + 1])
        assert alone.shape[1] == alone_frames[0] == frames[row]
        torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("info", [i for i in UPSTREAMS.values() if not i.source])
def test_the_listed_shapes_are_the_real_ones(info: UpstreamInfo) -> None:
    adapter: TypeAdapter[SpectralConfig] = TypeAdapter(SpectralConfig)
    config = adapter.validate_python({"kind": info.kind, "name": info.name, **info.options})
    upstream = build_upstream(config)
    assert (upstream.layer_dims("hidden_states"), upstream.stride) == ([info.dim], info.stride)


def test_a_reflection_at_the_batchs_end_would_be_noticed() -> None:
    wavs, _ = padded([4321, 16000], fill=0.0)
    alone, _ = extract(MelConfig(cmvn=False), wavs[:1, :4321], torch.tensor([4321]))
    longer, _ = extract(MelConfig(cmvn=False), wavs[:1], torch.tensor([16000]))
    assert (longer[0, : alone.shape[1]] - alone[0]).abs().max() > 0.1


def test_a_spectral_upstream_has_no_identity_beside_its_config() -> None:
    assert build_upstream(MelConfig()).identity() == {}


def test_an_utterance_shorter_than_one_window_is_refused() -> None:
    with pytest.raises(DataError, match="399 samples, but one frame needs 400"):
        fbank(torch.zeros(2, 800), torch.tensor([800, 399]))


def test_fbank_has_nothing_to_train_or_save_and_one_output() -> None:
    upstream = build_upstream(FbankConfig())
    assert not list(upstream.parameters())
    assert not upstream.state_dict()
    assert (upstream.stride, upstream.layer_dims("hidden_states")) == (160, [240])
    with pytest.raises(UsageError, match="no output 'layer_3'"):
        upstream.layer_dims("layer_3")
