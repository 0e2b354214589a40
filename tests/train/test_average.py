"""The moving average of the weights: its value, its restoration, its visit to the model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import safetensors.torch
import torch

from orchestra.train.average import Average, NoAverage, build_average
from orchestra.wire.errors import UsageError
from tests.train.toy import Toy, toy_config

DECAY = 0.9


def move(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)


def moved_average(updates: int = 5) -> tuple[Toy, Average]:
    model = Toy()
    average = Average(DECAY, model)
    for seed in range(updates):
        move(model, seed)
        average.update()
    return model, average


def test_it_is_the_closed_form() -> None:
    model = Toy()
    average = Average(DECAY, model)
    history = [copy.deepcopy(model.state_dict())]
    for seed in range(5):
        move(model, seed)
        average.update()
        history.append(copy.deepcopy(model.state_dict()))
    for name, tensor in average.tensors().items():
        expected = DECAY**5 * history[0][name].double() + sum(
            (1 - DECAY) * DECAY ** (5 - n) * history[n][name].double() for n in range(1, 6)
        )
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor.double(), expected, atol=1e-6)


def test_only_what_is_trained_is_averaged() -> None:
    model = Toy()
    model.inner.requires_grad_(False)
    assert Average(DECAY, model).tensors().keys() == {"outer.weight", "outer.bias"}


def test_what_does_not_move_stays_as_it_is() -> None:
    model = Toy()
    average = Average(0.3, model)
    for _ in range(10):
        average.update()
    assert all(torch.equal(average.tensors()[n], p) for n, p in model.named_parameters())


def test_restored_from_disk_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model, average = moved_average()
    safetensors.torch.save_file(average.tensors(), tmp_path / "average")
    twin = copy.deepcopy(model)
    again = Average(DECAY, twin)
    again.load(safetensors.torch.load_file(tmp_path / "average"))
    for each, its in ((model, average), (twin, again)):
        move(each, 77)
        its.update()
    for name, tensor in average.tensors().items():
        assert torch.equal(again.tensors()[name], tensor)


def test_the_model_holds_the_averages_only_within() -> None:
    model, average = moved_average()
    own = copy.deepcopy(model.state_dict())
    averages = {name: tensor.clone() for name, tensor in average.tensors().items()}
    with average.applied():
        assert all(torch.equal(p, averages[n]) for n, p in model.named_parameters())
        assert not torch.equal(model.inner.weight, own["inner.weight"])
    assert all(torch.equal(tensor, own[n]) for n, tensor in model.state_dict().items())
    assert all(torch.equal(average.tensors()[n], tensor) for n, tensor in averages.items())


def test_an_error_within_takes_them_out_again() -> None:
    model, average = moved_average()
    own = copy.deepcopy(model.state_dict())
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert all(torch.equal(tensor, own[n]) for n, tensor in model.state_dict().items())


def test_averages_of_another_model_are_refused_by_name() -> None:
    _, average = moved_average()
    tensors = average.tensors()
    with pytest.raises(UsageError, match=r"outer\.bias"):
        average.load({n: t for n, t in tensors.items() if n != "outer.bias"})
    with pytest.raises(UsageError, match="stranger"):
        average.load({**tensors, "stranger": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"inner\.weight"):
        average.load({**tensors, "inner.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"optim\.ema_decay"):
        average.load({})


def test_where_none_is_kept_the_model_is_as_it_is() -> None:
    model = Toy()
    average = build_average(toy_config().optim, model)
    assert isinstance(average, NoAverage)
    average.update()
    average.load({})
    assert average.tensors() == {}
    with average.applied():
        assert torch.equal(model.inner.weight, Toy().inner.weight)
    with pytest.raises(UsageError, match=r"optim\.ema_decay"):
        average.load({"inner.weight": torch.zeros(1)})


def test_it_is_kept_where_the_config_asks_for_it() -> None:
    config = toy_config(optim={"ema_decay": 0.99}).optim
    assert isinstance(build_average(config, Toy()), Average)
