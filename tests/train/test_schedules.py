"""Learning-rate factors at the points a user would check by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.config.schema import ScheduleConfig
from orchestra.train.schedules import factor, warm_up_steps

FALLING = ["linear", "cosine", "polynomial"]
KINDS = [*FALLING, "step", "constant"]

schedules = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "final_ratio": st.floats(0.0, 1.0),
        "power": st.floats(0.1, 5.0),
        "every": st.integers(1, 50),
        "drop": st.floats(0.1, 0.9),
    }
)
warm_ups = st.one_of(
    st.fixed_dictionaries({"warmup_steps": st.integers(0, 60)}),
    st.fixed_dictionaries({"warmup_ratio": st.floats(0.0, 0.9)}),
)


def factors(total_steps: int = 11, **keys: Any) -> list[float]:
    config = ScheduleConfig(**keys)
    return [factor(config, step, total_steps) for step in range(total_steps)]


@given(schedules, warm_ups, st.integers(1, 200))
def test_end_points_and_shape(
    keys: dict[str, Any], warm_up: dict[str, Any], total_steps: int
) -> None:
    config = ScheduleConfig(**keys, **warm_up)
    warmup_steps = warm_up_steps(config, total_steps)
    values = factors(total_steps, **keys, **warm_up)
    rising, falling = values[:warmup_steps], values[max(warmup_steps - 1, 0) :]
    assert values[0] == pytest.approx(1.0 / max(warmup_steps, 1))
    assert rising == sorted(set(rising))
    assert falling == sorted(falling, reverse=True) or falling == pytest.approx(
        sorted(falling, reverse=True), abs=1e-12
    )
    if warmup_steps <= total_steps:
        assert falling[0] == pytest.approx(1.0)
    if config.kind in FALLING and total_steps > max(warmup_steps, 1):
        assert values[-1] == pytest.approx(config.final_ratio, abs=1e-12)
    assert factor(config, total_steps, total_steps) == values[-1]
    assert factor(config, 10 * total_steps, total_steps) == values[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_rises_to_one(kind: str) -> None:
    assert factors(kind=kind, warmup_steps=4)[:4] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("kind", "half_way"), [("linear", 0.55), ("cosine", 0.55), ("polynomial", 0.1 + 0.9 * 0.125)]
)
def test_half_way(kind: str, half_way: float) -> None:
    assert factors(kind=kind, final_ratio=0.1, power=3.0)[5] == pytest.approx(half_way)


def test_linear_is_straight_after_warm_up() -> None:
    values = factors(kind="linear", warmup_steps=3)
    drops = {round(a - b, 12) for a, b in pairwise(values[2:])}
    assert len(drops) == 1


def test_steps_drop_from_the_end_of_the_warm_up() -> None:
    values = factors(10, kind="step", warmup_steps=2, every=3, drop=0.5)
    assert values == [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_constant_stays() -> None:
    assert set(factors(kind="constant")) == {1.0}


@pytest.mark.parametrize(("ratio", "expected"), [(0.1, 10), (0.104, 10), (0.001, 1), (0.0, 0)])
def test_warm_up_as_a_ratio_of_all_steps(ratio: float, expected: int) -> None:
    assert warm_up_steps(ScheduleConfig(warmup_ratio=ratio), 100) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_as_long_as_the_run_is_no_error(kind: str) -> None:
    assert factors(kind=kind, warmup_steps=11)[-1] == 1.0
    assert factors(1, kind=kind) == [1.0]


def test_a_run_that_ends_by_the_clock_has_no_last_step() -> None:
    step = ScheduleConfig(kind="step", every=10, drop=0.1)
    assert factor(step, 25, None) == pytest.approx(0.01)
    assert factor(ScheduleConfig(warmup_steps=2), 10**9, None) == 1.0
