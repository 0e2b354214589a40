"""When a run is at its end, when it validates, and how much is left. Pure.

Positions are counted in steps and in epochs; the clock is rank 0's alone and comes in as a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestra.config.schema import RunConfig, TrainConfig
from orchestra.train.progress import Progress
from orchestra.train.statistics import Left

_ROUNDING = 1e-9  # of epochs, which are sums of fractions


@dataclass(frozen=True)
class Horizon:
    """What schedules and forecasts count on."""

    steps: int | None
    """All steps of the run; None where only the clock ends it. With max_epochs an estimate by the
    first epoch's plan: others may have some steps more or fewer."""
    steps_per_epoch: int

    @classmethod
    def of(cls, train: TrainConfig, steps_per_epoch: int) -> Horizon:
        """From the limits of the config and the plan of the first epoch."""
        limits = [train.max_steps] if train.max_steps else []
        if train.max_epochs:
            limits.append(train.max_epochs * steps_per_epoch)
        return cls(min(limits, default=None), steps_per_epoch)


def limit_reached(train: TrainConfig, step: int, epochs: float) -> str | None:
    """The key of the limit that ends the run here, steps before epochs; None: it goes on."""
    if train.max_steps is not None and step >= train.max_steps:
        return "train.max_steps"
    if train.max_epochs is not None and epochs >= train.max_epochs - _ROUNDING:
        return "train.max_epochs"
    return None


def time_is_up(train: TrainConfig, elapsed_s: float) -> bool:
    """Whether the hours that the config allows have passed."""
    return train.max_hours is not None and elapsed_s >= 3600 * train.max_hours


def validation_due(train: TrainConfig, progress: Progress, epochs: float) -> bool:
    """Whether the run validates where it stands; the end of a run is for the caller to know."""
    step = progress.step
    if progress.is_validated():
        return False
    if step == 0:
        return train.eval_at_start
    if train.eval_every is not None and step % train.eval_every == 0:
        return True
    share = train.eval_every_epochs
    if share is None:
        return False
    last = progress.validations[-1].epochs if progress.validations else 0.0
    return _multiples(epochs, share) > _multiples(last, share)


def left(config: RunConfig, horizon: Horizon, progress: Progress, elapsed_s: float) -> Left:
    """What is still to be done, as far as anybody can know."""
    train = config.train
    hours = train.max_hours
    seconds = None if hours is None else max(3600 * hours - elapsed_s, 0.0)
    if horizon.steps is None:
        return Left(None, None, None, seconds)
    # An epoch may have fewer steps than the first one had.
    end = max(horizon.steps, progress.step)
    validations = 0
    if train.eval_every is not None:
        validations += end // train.eval_every - progress.step // train.eval_every
    if train.eval_every_epochs is not None:
        steps = max(train.eval_every_epochs * horizon.steps_per_epoch, 1.0)
        validations += int(end / steps) - int(progress.step / steps)
    every = config.checkpoint.every
    saves = end // every - progress.step // every
    return Left(end - progress.step, validations, saves, seconds)


def _multiples(epochs: float, share: float) -> int:
    return int(epochs / share + _ROUNDING)
