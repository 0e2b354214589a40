"""Which metric decides, and when patience is over."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestra.config.schema import CheckpointConfig, RunConfig, StoppingConfig
from orchestra.train.goals import Goal, best_goal, out_of_patience, stopping_goal
from orchestra.wire.errors import UsageError
from tests.exactness.launching import write_job
from tests.train.running import config_of

METRICS: Any = {"wer": "min", "accuracy": "max"}
LESS, MORE = Goal("wer", "min"), Goal("accuracy", "max")


@pytest.fixture
def config(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    return config_of(write_job(tmp_path / "run"))[0]


def changed(config: RunConfig, checkpoint: dict[str, Any], stopping: Any = None) -> RunConfig:
    return config.model_copy(
        update={
            "checkpoint": CheckpointConfig(every=1, **checkpoint),
            "train": config.train.model_copy(update={"stopping": stopping}),
        }
    )


def test_the_config_names_metric_and_direction(config: RunConfig) -> None:
    assert best_goal(config, METRICS) == LESS
    assert best_goal(changed(config, {"metric": "accuracy"}), METRICS) == MORE
    turned = changed(config, {"metric": "accuracy", "direction": "min"})
    assert best_goal(turned, METRICS) == Goal("accuracy", "min")


def test_stopping_looks_at_what_names_the_best_unless_told_otherwise(config: RunConfig) -> None:
    assert stopping_goal(config, METRICS) is None
    same = changed(config, {"metric": "accuracy"}, StoppingConfig(patience=1))
    assert stopping_goal(same, METRICS) == MORE
    other = changed(config, {"metric": "accuracy"}, StoppingConfig(patience=1, metric="wer"))
    assert stopping_goal(other, METRICS) == LESS


def test_a_metric_that_the_task_lacks_is_named_with_those_it_has(config: RunConfig) -> None:
    told = "checkpoint.metric = 'bleu' is no metric of the task; its metrics: wer, accuracy"
    with pytest.raises(UsageError, match=told):
        best_goal(changed(config, {"metric": "bleu"}), METRICS)
    stopping = StoppingConfig(patience=1, metric="bleu")
    with pytest.raises(UsageError, match=r"train.stopping.metric = 'bleu'"):
        stopping_goal(changed(config, {}, stopping), METRICS)


@pytest.mark.parametrize(
    ("scores", "patience", "min_delta", "answer"),
    [
        ([], 1, 0.0, False),
        ([5.0], 1, 0.0, False),
        ([5.0, 5.0], 1, 0.0, True),
        ([5.0, 6.0], 2, 0.0, False),
        ([5.0, 6.0, 6.0], 2, 0.0, True),
        ([5.0, 6.0, 4.0], 1, 0.0, False),
        ([5.0, 4.9, 4.8], 2, 0.5, True),  # too little counts as none
        ([5.0, 4.8, 4.4], 2, 0.5, False),  # together it is enough
        ([math.nan, math.nan], 2, 0.0, True),
        ([math.nan, 5.0], 1, 0.0, False),
    ],
)
def test_patience(scores: list[float], patience: int, min_delta: float, answer: bool) -> None:
    assert out_of_patience(scores, LESS, patience, min_delta) is answer
    assert out_of_patience([-score for score in scores], MORE, patience, min_delta) is answer
