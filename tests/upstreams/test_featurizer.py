"""Which features a head sees: the learnt sum, one layer, normalisation, zeros at padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orchestra.config.schema import FbankConfig, HuggingFaceConfig
from orchestra.upstreams.base import Features, Upstream
from orchestra.upstreams.featurizer import Featurizer
from orchestra.wire.errors import UsageError

LENGTHS = torch.tensor([5, 3])


class Layers(Upstream):
    """Four random layers, or those of the given dimensions."""

    stride, min_samples = 320, 400

    def __init__(self, dims: list[int] | None = None) -> None:
        super().__init__()
        self.dims = dims or [6] * 4
        generator = torch.Generator().manual_seed(0)
        self.states = [torch.randn(2, 5, dim, generator=generator) for dim in self.dims]

    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        return Features({"hidden_states": self.states}, LENGTHS)

    def layer_dims(self, key: str) -> list[int]:
        return self.dims


def features_of(upstream: Layers, **choice: object) -> tuple[Tensor, Featurizer]:
    config = HuggingFaceConfig.model_validate({"name": "x", "source": "x", **choice})
    featurizer = Featurizer(config, upstream)
    mixed, lengths = featurizer(upstream.extract(torch.empty(0), LENGTHS))
    assert torch.equal(lengths, LENGTHS)
    assert not mixed[1, 3:].any()
    return mixed, featurizer


def test_the_sum_starts_as_the_mean_of_all_layers() -> None:
    upstream = Layers()
    mixed, featurizer = features_of(upstream)
    assert featurizer.dim == 6
    torch.testing.assert_close(mixed[0], torch.stack(upstream.states).mean(0)[0])


def test_the_sum_is_learnt_through_a_softmax() -> None:
    upstream = Layers()
    config = HuggingFaceConfig(name="x", source="x")
    featurizer = Featurizer(config, upstream)
    assert featurizer.weights is not None
    featurizer.weights.data.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]))
    mixed, _ = featurizer(upstream.extract(torch.empty(0), LENGTHS))
    shares = torch.tensor([0.0, 1.0, 2.0, -1.0]).softmax(0)
    expected = sum(share * state for share, state in zip(shares, upstream.states, strict=True))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(mixed[0], expected[0])
    mixed.square().sum().backward()
    assert featurizer.weights.grad is not None
    assert featurizer.weights.grad.abs().min() > 0


@pytest.mark.parametrize(("layers", "index"), [(0, 0), (2, 2), (-1, 3), (-4, 0)])
def test_one_layer_has_nothing_to_learn(layers: int, index: int) -> None:
    upstream = Layers()
    mixed, featurizer = features_of(upstream, layers=layers)
    assert torch.equal(mixed[0], upstream.states[index][0])
    assert not list(featurizer.parameters())


@pytest.mark.parametrize("layers", [4, -5])
def test_a_layer_that_is_not_there_names_the_range(layers: int) -> None:
    with pytest.raises(UsageError, match=r"has 4 layers.*between -4 and 3"):
        features_of(Layers(), layers=layers)


def test_normalize_gives_each_layer_the_same_scale() -> None:
    upstream = Layers()
    upstream.states[1] = upstream.states[1] * 1000 + 5
    mixed, _ = features_of(upstream, normalize=True)
    normal = [
        (s - s.mean(-1, keepdim=True)) / (s.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        for s in upstream.states
    ]
    torch.testing.assert_close(mixed[0], torch.stack(normal).mean(0)[0], atol=1e-5, rtol=0)
    plain, _ = features_of(upstream)
    assert (plain - mixed).abs().max() > 100


def test_layers_of_different_dimensions_are_not_summed_but_one_can_be_chosen() -> None:
    with pytest.raises(UsageError, match=r"\[4, 6\]"):
        features_of(Layers([4, 6]))
    _, featurizer = features_of(Layers([4, 6]), layers=-1)
    assert featurizer.dim == 6


def test_fbank_passes_through() -> None:
    upstream = Layers([240])
    featurizer = Featurizer(FbankConfig(), upstream)
    mixed, _ = featurizer(upstream.extract(torch.empty(0), LENGTHS))
    assert torch.equal(mixed[0], upstream.states[0][0])
    assert not list(featurizer.parameters())
