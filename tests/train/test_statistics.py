"""What a record says: means as gradients weigh them, shares of the time, the time left."""

from __future__ import annotations

import math

import pytest
import torch

from orchestra.train.statistics import Left, Meter, Recent, peak_memory_bytes
from orchestra.train.step import Taken, Totals

CPU = torch.device("cpu")
NOTHING = Left(None, None, None, None)


def taken(
    weight: float = 1.0,
    loss: float = 0.0,
    *,
    applied: bool = True,
    grad_norm: float = 1.0,
    lr: float = 0.1,
    data_s: float = 0.0,
    wait_s: float = 0.0,
) -> Taken:
    totals = Totals(weight, {"loss": loss, "correct": 2 * loss}, False, False, applied)
    return Taken(totals, applied, False, grad_norm, lr, (), data_s, wait_s)


@pytest.fixture
def meter() -> Meter:
    return Meter(CPU)


def test_means_weigh_as_gradients_do(meter: Meter) -> None:
    meter.step(taken(weight=1, loss=9.0, grad_norm=1.0, lr=0.3), 4.0, 1.0, 0.0)
    meter.step(taken(weight=3, loss=3.0, grad_norm=2.0, lr=0.2), 8.0, 2.0, 0.0)
    values = meter.values(NOTHING)
    assert values["loss"] == 3.0  # the mean of the steps' means would be 5
    assert values["correct"] == 6.0
    assert (values["grad_norm"], values["lr"]) == (1.5, 0.2)
    assert (values["audio_s_per_s"], values["steps_per_s"]) == (4.0, 2 / 3)


def test_a_skipped_step_counts_in_time_and_not_in_loss(meter: Meter) -> None:
    meter.step(taken(weight=2, loss=4.0, grad_norm=3.0), 5.0, 1.0, 0.0)
    meter.step(taken(weight=2, loss=math.nan, applied=False, grad_norm=math.inf), 5.0, 1.0, 0.0)
    values = meter.values(NOTHING)
    assert (values["loss"], values["grad_norm"]) == (2.0, 3.0)
    assert (values["steps_per_s"], values["audio_s_per_s"]) == (1.0, 5.0)


def test_a_window_of_skipped_steps_has_no_loss(meter: Meter) -> None:
    meter.step(taken(loss=math.nan, applied=False), 5.0, 1.0, 0.0)
    values = meter.values(NOTHING)
    assert not {"loss", "correct", "grad_norm"} & values.keys()
    assert not any(math.isnan(value) for value in values.values())


def test_each_record_is_of_the_steps_since_the_last(meter: Meter) -> None:
    meter.step(taken(loss=100.0), 1.0, 1.0, 0.0)
    meter.values(NOTHING)
    meter.step(taken(loss=1.0, data_s=0.0), 1.0, 0.5, 0.0)
    values = meter.values(NOTHING)
    assert (values["loss"], values["steps_per_s"]) == (1.0, 2.0)


def test_shares_are_of_the_time_of_the_steps(meter: Meter) -> None:
    meter.step(taken(data_s=0.2, wait_s=0.1), 1.0, 1.0, 0.3)
    meter.step(taken(data_s=0.0, wait_s=0.0), 1.0, 3.0, 0.4)
    meter.validation(50.0)
    meter.save(50.0)
    values = meter.values(NOTHING)
    assert values["data_share"] == pytest.approx(0.05)
    assert values["communication_share"] == pytest.approx(0.2)


def test_a_gpus_own_queue_is_no_communication() -> None:
    meter = Meter(torch.device("meta"))  # any device that is no CPU
    meter.step(taken(wait_s=0.9), 1.0, 1.0, 0.1)
    assert meter.values(NOTHING)["communication_share"] == pytest.approx(0.1)


def test_time_left_tells_steps_validations_and_saves_apart(meter: Meter) -> None:
    meter.step(taken(), 1.0, 60.0, 0.0)  # loads and compiles
    for _ in range(3):
        meter.step(taken(), 1.0, 2.0, 0.0)
    meter.validation(10.0)
    meter.save(1.0)
    values = meter.values(Left(steps=100, validations=4, saves=5))
    assert values["eta_s"] == 200 + 40 + 5
    assert (values["eta_evaluation_s"], values["eta_checkpoint_s"]) == (40, 5)


def test_the_clock_may_end_a_run_earlier(meter: Meter) -> None:
    meter.step(taken(), 1.0, 2.0, 0.0)
    meter.validation(10.0)
    by_steps = meter.values(Left(steps=10, validations=2, saves=0, seconds=41.0))
    assert (by_steps["eta_s"], by_steps["eta_evaluation_s"]) == (40.0, 20.0)
    by_clock = meter.values(Left(steps=10, validations=2, saves=0, seconds=20.0))
    assert (by_clock["eta_s"], by_clock["eta_evaluation_s"]) == (20.0, 10.0)
    over = meter.values(Left(steps=10, validations=2, saves=0, seconds=-3.0))
    assert over["eta_s"] == 0.0


def test_what_nobody_knows_is_left_out(meter: Meter) -> None:
    assert not [name for name in meter.values(Left(10, 1, 1)) if name.startswith("eta")]
    meter.step(taken(), 1.0, 2.0, 0.0)
    assert not [name for name in meter.values(NOTHING) if name.startswith("eta")]
    only_clock = meter.values(Left(None, None, None, seconds=30.0))
    assert only_clock["eta_s"] == 30.0
    no_validation_yet = meter.values(Left(steps=3, validations=1, saves=0))
    assert no_validation_yet["eta_s"] == 6.0
    assert "eta_evaluation_s" not in no_validation_yet
    assert no_validation_yet["eta_checkpoint_s"] == 0.0


def test_the_mean_follows_what_is_recent() -> None:
    recent = Recent(2)
    assert recent.mean_s is None
    recent.add(100.0)
    assert recent.mean_s == 100.0
    for duration_s in (1.0, 3.0, 5.0):
        recent.add(duration_s)
    assert recent.mean_s == 4.0


def test_memory_is_this_process_own_peak() -> None:
    block = b"x" * (64 * 2**20)
    peak = peak_memory_bytes(CPU)
    assert peak > len(block)
    del block
    assert peak_memory_bytes(CPU) > peak - 32 * 2**20  # what is resident now is 64 MiB less
