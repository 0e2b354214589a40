"""The freezing schedule: what trains when, what stays in eval mode, what ranks make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestra.config.schema import FreezeConfig
from orchestra.train.freezing import Freezing
from orchestra.train.model import SpeechModel, build_model
from orchestra.train.optim import build_optimizer
from orchestra.wire.errors import UsageError
from tests.exactness.launching import write_job
from tests.train import unfreezing_ranks
from tests.train.running import open_here
from tests.train.together import run_together
from tests.train.toy import MICRO_BATCHES, Toy, batch, gradients_by_name, toy_config


@pytest.fixture
def model(tmp_path: Path) -> SpeechModel:
    """Its head has inner, norm (batch norm), dropout and outer."""
    session = open_here(write_job(tmp_path / "run"))
    return build_model(session.config, session.task)


def rule(parameters: str, until_step: int | None = None) -> FreezeConfig:
    return FreezeConfig(parameters=parameters, until_step=until_step)


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


OUTER = {"head.outer.weight", "head.outer.bias"}
INNER = {"head.inner.weight", "head.inner.bias"}
NORM = {"head.norm.weight", "head.norm.bias"}


def test_parts_are_trained_from_their_step_on(model: SpeechModel) -> None:
    everything = trained(model)
    rules = [rule("head.inner", 2), rule("head.norm"), rule("head.outer.bias", 1)]
    freezing = Freezing(rules, model)
    assert trained(model) == everything - NORM  # what is ever trained
    changes, found = [], []
    for step in range(4):
        changes.append(freezing.apply(step))
        found.append(everything - trained(model))
    assert changes == [True, True, True, False]
    assert found == [NORM | INNER | {"head.outer.bias"}, NORM | INNER, NORM, NORM]


def test_a_resumed_run_begins_in_the_middle(model: SpeechModel) -> None:
    freezing = Freezing([rule("head.inner", 5)], model)
    everything = trained(model)
    assert not freezing.apply(7)
    assert trained(model) == everything


@pytest.mark.parametrize("turn", [1, -1])
def test_the_longest_of_several_rules_counts(model: SpeechModel, turn: int) -> None:
    rules = [rule("head.inner", 1), rule("head.inner.weight", 3)]
    Freezing(rules[::turn], model).apply(2)
    assert INNER - trained(model) == {"head.inner.weight"}


def test_without_rules_nothing_changes(model: SpeechModel) -> None:
    everything = trained(model)
    assert not Freezing([], model).apply(0)
    assert trained(model) == everything
    assert model.head.norm.training


def test_a_frozen_module_is_in_eval_mode_until_it_is_trained(model: SpeechModel) -> None:
    freezing = Freezing([rule("head.norm", 1), rule("head.inner.weight")], model)

    def modes() -> list[bool]:
        model.train()
        head = model.head
        return [head.norm.training, head.inner.training, head.dropout.training, head.training]

    freezing.apply(0)
    assert modes() == [False, True, True, True]  # inner's bias is trained
    freezing.apply(1)
    assert modes() == [True, True, True, True]
    model.eval()
    freezing.apply(0)
    assert not model.head.training


def test_the_optimizer_holds_what_is_ever_trained(model: SpeechModel) -> None:
    everything = trained(model)
    freezing = Freezing([rule("head.inner", 1), rule("head.norm")], model)
    optimizer = build_optimizer(toy_config(), model)
    freezing.apply(0)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in held}
    assert names == everything - NORM


def test_tied_weights_are_frozen_by_either_name(model: SpeechModel) -> None:
    model.head.other = torch.nn.Linear(48, 3)
    model.head.other.weight = model.head.outer.weight
    Freezing([rule("head.other")], model)
    assert not model.head.outer.weight.requires_grad
    assert model.head.outer.bias.requires_grad


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([rule("head.iner")], r"begins with 'head\.iner' up to a dot; did you mean 'head\.inner'"),
        ([rule("head.inn")], r"begins with 'head\.inn' up to a dot; did you mean 'head\.inner'"),
        ([rule("zzz")], r"begins with 'zzz'.*there are .*head"),
        ([rule("head")], "nothing is ever trained"),
        ([rule("head", 7), rule("head.inner", 9)], "nothing is trained before step 7"),
    ],
)
def test_what_cannot_be_meant_is_said(
    model: SpeechModel, rules: list[FreezeConfig], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Freezing(rules, model)


def test_what_the_model_never_trains_cannot_be_thawed(model: SpeechModel) -> None:
    model.head.norm.requires_grad_(False)
    Freezing([rule("head.norm")], model).apply(0)
    with pytest.raises(UsageError, match=r"'head\.norm' is to be trained from step 3.*trainable"):
        Freezing([rule("head.norm", 3)], model)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two real ranks found in the first step after unfreezing."""
    folder = tmp_path_factory.mktemp("unfreezing")
    run_together(unfreezing_ranks, 2, folder / "store", folder / "out")
    return [json.loads((folder / f"out.{rank}").read_text()) for rank in range(2)]


def one_big_batch(weights: dict[str, list[float]]) -> dict[str, Tensor]:
    model = Toy(torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.tensor(weights[name], dtype=torch.float64)
            parameter.copy_(values.view_as(parameter))
    terms = [model(batch(number, torch.float64)) for number in range(len(MICRO_BATCHES))]
    (torch.stack([t.sum for t in terms]).sum() / sum(MICRO_BATCHES)).backward()
    return gradients_by_name(model)


def test_unfrozen_gradients_are_exchanged_after_wrapping_anew(
    answers: list[dict[str, Any]],
) -> None:
    for answer in answers:
        found = answer["anew"]
        for name, expected in one_big_batch(found["before"]).items():
            assert found["gradient"][name] == pytest.approx(expected.flatten().tolist(), abs=1e-10)
        assert found["old is gone"]


def test_control_without_wrapping_anew_every_rank_has_its_own(
    answers: list[dict[str, Any]],
) -> None:
    first, second = (answer["as it was"]["gradient"] for answer in answers)
    assert first["outer.weight"] == second["outer.weight"]
    assert first["inner.weight"] != second["inner.weight"]
