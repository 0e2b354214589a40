"""When a run ends and validates, by steps, epochs and hours; what is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.config.schema import TrainConfig
from orchestra.train.endings import Horizon, left, limit_reached, time_is_up, validation_due
from orchestra.train.progress import Progress
from tests.exactness.launching import write_job
from tests.train.running import config_of


def train(**values: Any) -> TrainConfig:
    given = {"max_steps": 100, "eval_every": 10, **values}
    return TrainConfig(**{key: value for key, value in given.items() if value is not None})


def test_the_first_limit_ends_the_run() -> None:
    both = train(max_steps=100, max_epochs=3)
    assert not limit_reached(both, 99, 2.9)
    assert limit_reached(both, 100, 3.0) == "train.max_steps"
    assert limit_reached(both, 50, 3.0) == "train.max_epochs"
    assert not limit_reached(train(max_steps=None, max_hours=1.0), 10**9, 1e9)


def test_hours() -> None:
    assert not time_is_up(train(), 1e9)
    assert not time_is_up(train(max_hours=0.5), 1799.0)
    assert time_is_up(train(max_hours=0.5), 1800.0)


def test_the_horizon_is_the_nearest_limit() -> None:
    assert Horizon.of(train(max_steps=100), 7).steps == 100
    assert Horizon.of(train(max_steps=100, max_epochs=3), 7).steps == 21
    assert Horizon.of(train(max_steps=None, max_hours=1.0), 7).steps is None


def due(config: TrainConfig, steps: int, steps_per_epoch: int) -> list[int]:
    """The steps at which a run validates."""
    progress, found = Progress(), []
    for step in range(steps + 1):
        progress.step = step
        if validation_due(config, progress, step / steps_per_epoch):
            progress.add_validation(step / steps_per_epoch, {})
            found.append(step)
        assert not validation_due(config, progress, step / steps_per_epoch) or step == 0
    return found


def test_validation_by_steps() -> None:
    assert due(train(eval_every=4), 12, 5) == [4, 8, 12]


def test_validation_at_the_start_if_asked() -> None:
    assert due(train(eval_every=4, eval_at_start=True), 8, 5) == [0, 4, 8]


@pytest.mark.parametrize(
    ("share", "steps"), [(1.0, [10, 20]), (0.5, [5, 10, 15, 20]), (0.3, [3, 6, 9, 12, 15, 18])]
)
def test_validation_by_epochs(share: float, steps: list[int]) -> None:
    assert due(train(eval_every=None, eval_every_epochs=share), 20, 10) == steps


def test_validation_by_both() -> None:
    assert due(train(eval_every=4, eval_every_epochs=0.5), 12, 10) == [4, 5, 8, 10, 12]


def test_a_validation_that_a_stop_kept_from_happening_is_due_on_resume() -> None:
    progress = Progress(step=6)
    config = train(eval_every=None, eval_every_epochs=0.5)
    assert validation_due(config, progress, 0.6)  # it was due at step 5


def test_what_is_left(tmp_path: Path) -> None:
    tables = {"train": {"max_steps": 12, "eval_every": 5}, "checkpoint": {"every": 4}}
    config = config_of(write_job(tmp_path / "run", **tables))[0]
    assert left(config, Horizon(12, 6), Progress(step=4), 0.0).steps == 8
    whole = left(config, Horizon(12, 6), Progress(), 0.0)
    assert (whole.steps, whole.validations, whole.saves) == (12, 2, 3)
    over = left(config, Horizon(12, 6), Progress(step=14), 0.0)
    assert (over.steps, over.validations, over.saves) == (0, 0, 0)
    hours = config.train.model_copy(update={"max_hours": 1.0})
    clocked = left(config.model_copy(update={"train": hours}), Horizon(None, 6), Progress(), 600.0)
    assert (clocked.steps, clocked.seconds) == (None, 3000.0)
