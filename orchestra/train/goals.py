"""Which metrics decide: what the best checkpoint is, and when training no longer gets better. Pure.

Metrics are the task's; the config names one of them, and may turn its direction round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra.config.schema import RunConfig
from orchestra.tasks import Direction
from orchestra.wire.errors import UsageError


@dataclass(frozen=True)
class Goal:
    """What "better" means."""

    metric: str
    direction: Direction

    def better(self, score: float, than: float, min_delta: float = 0.0) -> bool:
        """Whether `score` is better by more than `min_delta`."""
        gain = than - score if self.direction == "min" else score - than
        return gain > min_delta


def best_goal(config: RunConfig, metrics: Mapping[str, Direction]) -> Goal:
    """What names the best checkpoint (UsageError: the task lacks the metric)."""
    chosen = config.checkpoint
    name = chosen.metric or next(iter(metrics))
    return _goal(metrics, name, chosen.direction, "checkpoint.metric")


def stopping_goal(config: RunConfig, metrics: Mapping[str, Direction]) -> Goal | None:
    """What early stopping looks at, if there is any (UsageError: the task lacks the metric)."""
    stopping = config.train.stopping
    if stopping is None:
        return None
    if stopping.metric is None:
        default = best_goal(config, metrics)
        return Goal(default.metric, stopping.direction or default.direction)
    return _goal(metrics, stopping.metric, stopping.direction, "train.stopping.metric")


def out_of_patience(scores: Sequence[float], goal: Goal, patience: int, min_delta: float) -> bool:
    """Whether the last `patience` validations brought no improvement; oldest score first."""
    best = math.nan
    without = 0
    for score in scores:
        improved = math.isfinite(score) and (
            math.isnan(best) or goal.better(score, best, min_delta)
        )
        best = score if improved else best
        without = 0 if improved else without + 1
    return without >= patience


def _goal(
    metrics: Mapping[str, Direction], name: str, direction: Direction | None, key: str
) -> Goal:
    if name not in metrics:
        raise UsageError(
            f"{key} = {name!r} is no metric of the task; its metrics: {', '.join(metrics)}"
        )
    return Goal(name, direction or metrics[name])
