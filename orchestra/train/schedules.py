"""Learning-rate schedules as closed forms of the step: nothing to save, nothing to drift.

With w warm-up steps, the factor of step s (the first is 0) is (s + 1) / w as long as s < w; it is
1 at s = w - 1. From there on, where n is the number of all steps, f the final ratio and
p = (s - a) / (n - 1 - a) the progress since a = max(w - 1, 0),

    linear      f + (1 - f) (1 - p)
    cosine      f + (1 - f) (1 + cos(pi p)) / 2      Loshchilov and Hutter 2017, arXiv:1608.03983
    polynomial  f + (1 - f) (1 - p)^power
    step        drop^floor((s - w) / every)
    constant    1

so the last step, n - 1, uses f. Whatever comes after it keeps the factor of the last step.
"""

from __future__ import annotations

import math

from orchestra.config.schema import ScheduleConfig


def factor(config: ScheduleConfig, step: int, total_steps: int | None) -> float:
    """What the base learning rate is multiplied by in step `step`.

    Args:
        total_steps: all steps of the run; None (it ends by the clock) only where neither the kind
            nor a warm-up ratio needs them, which the config's validation sees to.
    """
    if total_steps is not None:
        step = min(step, total_steps - 1)
    warmup_steps = warm_up_steps(config, total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if config.kind == "constant":
        return 1.0
    if config.kind == "step":
        return float(config.drop ** ((step - warmup_steps) // config.every))
    assert total_steps is not None
    first = max(warmup_steps - 1, 0)
    left = 1.0 - (step - first) / max(total_steps - 1 - first, 1)
    return config.final_ratio + (1.0 - config.final_ratio) * _height(config, left)


def warm_up_steps(config: ScheduleConfig, total_steps: int | None) -> int:
    """w: as configured, or the ratio's share of all steps, rounded, at least 1."""
    if not config.warmup_ratio:
        return config.warmup_steps
    assert total_steps is not None
    return max(round(config.warmup_ratio * total_steps), 1)


def _height(config: ScheduleConfig, left: float) -> float:
    """The curve from 1 to 0, by the share of steps that is left."""
    if config.kind == "cosine":
        return (1.0 + math.cos(math.pi * (1.0 - left))) / 2.0
    return float(left**config.power) if config.kind == "polynomial" else left
