"""Parameter groups and the optimizer's state by name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from orchestra.config.schema import RunConfig
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.optim import (
    build_optimizer,
    load_optimizer,
    optimizer_tensors,
    parameter_groups,
    set_learning_rates,
)
from orchestra.wire.errors import UsageError
from tests.exactness.launching import write_job
from tests.train.running import open_here
from tests.train.toy import toy_config

KINDS = ["adamw", "adam", "adafactor", "sgd"]


def probe(folder: Path, **optim: object) -> tuple[RunConfig, SpeechModel]:
    session = open_here(write_job(folder, optim=optim))
    return session.config, build_model(session.config, session.task)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """With gradients that differ by parameter and step; none for what is frozen."""
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            pattern = torch.linspace(0.1, 1.0, parameter.numel()).view_as(parameter)
            parameter.grad = parameter.detach() + pattern * (number + 1)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_state_survives_a_round_trip(tmp_path: Path, kind: str, momentum: float) -> None:
    config, model = probe(tmp_path / "run", kind=kind, momentum=momentum, weight_decay=0.1)
    optimizer = build_optimizer(config, model)
    step(model, optimizer)
    twin = copy.deepcopy(model)
    tensors = {k: v.clone() for k, v in optimizer_tensors(optimizer, model).items()}
    again, forgetful = build_optimizer(config, twin), copy.deepcopy(model)
    load_optimizer(again, twin, tensors)
    step(model, optimizer)
    step(twin, again)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    if kind == "sgd" and not momentum:
        return  # keeps no state
    step(forgetful, build_optimizer(config, forgetful))
    pairs = zip(model.parameters(), forgetful.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_adafactor_keeps_rows_and_columns_instead_of_a_matrix(tmp_path: Path) -> None:
    config, model = probe(tmp_path / "run", kind="adafactor")
    optimizer = build_optimizer(config, model)
    step(model, optimizer)
    shapes = {n: tuple(t.shape) for n, t in optimizer_tensors(optimizer, model).items()}
    assert shapes["head.outer.weight/row_var"] == (3, 1)
    assert shapes["head.outer.weight/col_var"] == (1, 48)
    assert shapes["head.outer.bias/variance"] == (3,)
    assert shapes["head.outer.weight/step"] == ()


def test_the_rate_of_adafactor_is_relative_to_the_weights(tmp_path: Path) -> None:
    config, model = probe(tmp_path / "run", kind="adafactor", lr=0.01)
    before = model.head.outer.weight.detach().clone()
    step(model, build_optimizer(config, model))
    change = (model.head.outer.weight.detach() - before).square().mean().sqrt()
    assert float(change / before.square().mean().sqrt()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_for_now_has_no_state_until_it_is_trained(tmp_path: Path, kind: str) -> None:
    config, model = probe(tmp_path / "run", kind=kind, momentum=0.9)
    optimizer = build_optimizer(config, model)
    model.head.inner.requires_grad_(False)
    before = model.head.inner.weight.detach().clone()
    step(model, optimizer)
    assert torch.equal(model.head.inner.weight, before)
    tensors = optimizer_tensors(optimizer, model)
    assert tensors
    assert not [name for name in tensors if name.startswith("head.inner.")]

    twin = copy.deepcopy(model)
    twin.requires_grad_(True)
    again = build_optimizer(config, twin)
    load_optimizer(again, twin, {name: tensor.clone() for name, tensor in tensors.items()})
    model.head.inner.requires_grad_(True)
    for _ in range(2):
        step(model, optimizer)
        step(twin, again)
    assert not torch.equal(model.head.inner.weight, before)
    found = optimizer_tensors(again, twin)
    for name, tensor in optimizer_tensors(optimizer, model).items():
        assert torch.equal(found[name], tensor), name


def test_state_of_what_is_not_trained_is_refused(tmp_path: Path) -> None:
    config, model = probe(tmp_path / "run")
    optimizer = build_optimizer(config, model)
    step(model, optimizer)
    tensors = optimizer_tensors(optimizer, model)
    model.head.inner.requires_grad_(False)
    with pytest.raises(UsageError, match=r"head\.inner\.bias, head\.inner\.weight.*optim\.freeze"):
        load_optimizer(build_optimizer(config, model), model, tensors)


class Tuned(nn.Module):
    """The names of a model whose upstream is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.upstream = nn.ModuleDict({"norm": nn.LayerNorm(4), "inner": nn.Linear(4, 4)})
        self.head = nn.ModuleDict({"words": nn.Embedding(5, 4), "outer": nn.Linear(4, 2)})


def test_vectors_are_not_decayed() -> None:
    model = Tuned()
    decayed = {
        id(parameter)
        for group in parameter_groups(toy_config(optim={"weight_decay": 0.5}), model)
        for parameter in group["params"]
        if group["weight_decay"] == 0.5
    }
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {"upstream.inner.weight", "head.words.weight", "head.outer.weight"}


def test_the_upstream_may_have_its_own_rate() -> None:
    upstream = {"kind": "huggingface", "name": "x", "source": "y", "trainable": True, "lr": 0.001}
    model = Tuned()
    config = toy_config(upstream=upstream, optim={"lr": 0.1})
    optimizer = build_optimizer(config, model)
    set_learning_rates(optimizer, 0.5)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == (0.0005 if name.startswith("upstream.") else 0.05)


def test_without_its_own_rate_the_upstream_has_the_common_one() -> None:
    upstream = {"kind": "huggingface", "name": "x", "source": "y", "trainable": True}
    groups = parameter_groups(toy_config(upstream=upstream, optim={"lr": 0.1}), Tuned())
    assert {group["lr"] for group in groups} == {0.1}


def test_rates_scale_from_their_base(tmp_path: Path) -> None:
    optimizer = build_optimizer(*probe(tmp_path / "run"))
    for _ in range(2):
        set_learning_rates(optimizer, 0.5)
        assert {group["lr"] for group in optimizer.param_groups} == {0.005}
