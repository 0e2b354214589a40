"""The gradient of a step is that of one big batch; decisions are the same on all ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train import gradient_ranks
from tests.train.gradient_ranks import CLIP, MICRO_BATCHES, Regression, batch, weights

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two real ranks found; they also check that a NaN on rank 0 alone changes nothing."""
    folder = tmp_path_factory.mktemp("gradients")
    files = [str(folder / "store"), str(folder / "out")]
    ranks = [
        subprocess.Popen(
            [sys.executable, gradient_ranks.__file__, str(rank), "2", *files],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in ranks] == [0, 0]
    return [json.loads((folder / f"out.{rank}").read_text()) for rank in range(2)]


def one_big_batch(clip_norm: float, *, mean_of_means: bool = False) -> tuple[list[float], float]:
    """Weights after one step of plain torch, and the gradient's norm."""
    model = Regression()
    terms = [model(batch(number)) for number in range(len(MICRO_BATCHES))]
    if mean_of_means:
        loss = torch.stack([t.sum / t.weight for t in terms]).mean()
    else:
        loss = torch.stack([t.sum for t in terms]).sum() / sum(MICRO_BATCHES)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm or float("inf"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    return weights(model), float(norm)


@pytest.mark.parametrize("clip_norm", [0.0, CLIP])
def test_uneven_micro_batches_give_the_gradient_of_one_big_batch(
    answers: list[dict[str, Any]], clip_norm: float
) -> None:
    expected, norm = one_big_batch(clip_norm)
    for answer in answers:
        found = answer[str(clip_norm)]
        assert found["weights"] == pytest.approx(expected, abs=1e-10)
        assert found["norm"] == pytest.approx(norm, abs=1e-10)


def test_control_a_mean_of_means_is_another_gradient(answers: list[dict[str, Any]]) -> None:
    other, _ = one_big_batch(0.0, mean_of_means=True)
    assert answers[0]["0.0"]["weights"] != pytest.approx(other, abs=1e-4)


def test_ranks_agree_on_sums_and_stop(answers: list[dict[str, Any]]) -> None:
    first, second = (answer["0.0"] for answer in answers)
    assert first == second
    assert first["weight"] == sum(MICRO_BATCHES)
    assert first["stop"] is True  # rank 1 alone asked for it
    terms = [Regression()(batch(number)) for number in range(len(MICRO_BATCHES))]
    assert first["sums"]["loss"] == pytest.approx(sum(t.sum.item() for t in terms))
    absolute = sum(t.scalars["absolute"].item() for t in terms)
    assert first["sums"]["absolute"] == pytest.approx(absolute)
