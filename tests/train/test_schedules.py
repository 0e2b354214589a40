"""Learning-rate factors at the points a user would check by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestra.config.schema import ScheduleConfig
from orchestra.train.schedules import factor


def factors(kind: str, *, warmup: int = 0, final: float = 0.0, steps: int = 11) -> list[float]:
    config = ScheduleConfig(kind=kind, warmup_steps=warmup, final_ratio=final)
    return [factor(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_warm_up_rises_to_one(kind: str) -> None:
    assert factors(kind, warmup=4)[:4] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_falls_from_one_to_the_final_ratio(kind: str) -> None:
    values = factors(kind, final=0.1)
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.55)  # half way, half down
    assert values[-1] == pytest.approx(0.1)
    assert values == sorted(values, reverse=True)


def test_linear_is_straight_after_warm_up() -> None:
    values = factors("linear", warmup=3)
    drops = {round(a - b, 12) for a, b in pairwise(values[2:])}
    assert len(drops) == 1


def test_constant_stays() -> None:
    assert set(factors("constant")) == {1.0}


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_warm_up_as_long_as_the_run_is_no_error(kind: str) -> None:
    assert factors(kind, warmup=11)[-1] == 1.0
    assert factors(kind, steps=1) == [1.0]
