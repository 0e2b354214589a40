"""Parameter groups and the optimizer's state by name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from orchestra.train.model import build_model
from orchestra.train.optim import (
    build_optimizer,
    load_optimizer,
    optimizer_tensors,
    parameter_groups,
    set_learning_rates,
)
from tests.exactness.launching import write_job
from tests.train.running import open_here


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_state_survives_a_round_trip(tmp_path: Path, kind: str, momentum: float) -> None:
    session = open_here(write_job(tmp_path / "run", optim={"kind": kind, "momentum": momentum}))
    model = build_model(session.config, session.task)
    optimizer = build_optimizer(session.config, model)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 * (number + 1))
        optimizer.step()

    step(model, optimizer)
    twin = copy.deepcopy(model)
    tensors = {k: v.clone() for k, v in optimizer_tensors(optimizer, model).items()}
    again = build_optimizer(session.config, twin)
    load_optimizer(again, twin, tensors)
    step(model, optimizer)
    step(twin, again)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)
    if kind != "sgd" or momentum:
        assert tensors, "nothing was saved, so nothing was proved"


def test_vectors_are_not_decayed(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run", optim={"weight_decay": 0.5}))
    model = build_model(session.config, session.task)
    for group in parameter_groups(session.config, model):
        dims = {parameter.ndim > 1 for parameter in group["params"]}
        assert dims == {group["weight_decay"] == 0.5}


def test_rates_scale_from_their_base(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run"))
    optimizer = build_optimizer(session.config, build_model(session.config, session.task))
    for _ in range(2):
        set_learning_rates(optimizer, 0.5)
        assert {group["lr"] for group in optimizer.param_groups} == {0.005}
