"""fbank against kaldi-native-fbank, and the promises that Kaldi does not make: batches, padding."""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from orchestra.config.schema import FbankConfig
from orchestra.upstreams import build_upstream
from orchestra.upstreams.fbank import add_deltas, delta_filters
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


def test_padding_never_changes_an_utterance() -> None:
    wavs, lengths = padded(LENGTHS, fill=0.7)
    together, frames = fbank(wavs, lengths)
    for row, samples in enumerate(LENGTHS):
        alone, _ = fbank(wavs[row : row + 1, :samples], lengths[row : row + 1])
        torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-4, rtol=0)


def test_autocast_does_not_round_the_features() -> None:
    wavs, lengths = padded([8000])
    plain, _ = fbank(wavs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = fbank(wavs, lengths)
    assert torch.equal(plain, mixed)


def test_an_utterance_shorter_than_one_window_is_refused() -> None:
    with pytest.raises(DataError, match=r"utterance 1 of the batch has 399 samples.*needs 400"):
        fbank(torch.zeros(2, 800), torch.tensor([800, 399]))


def test_fbank_has_nothing_to_train_or_save_and_one_output() -> None:
    upstream = build_upstream(FbankConfig())
    assert not list(upstream.parameters())
    assert not upstream.state_dict()
    assert (upstream.stride, upstream.layer_dims("hidden_states")) == (160, [240])
    with pytest.raises(UsageError, match="no output 'layer_3'"):
        upstream.layer_dims("layer_3")
