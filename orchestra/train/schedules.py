"""Learning-rate schedules as closed forms of the step: nothing to save, nothing to drift."""

from __future__ import annotations

import math

from orchestra.config.schema import ScheduleConfig


def factor(config: ScheduleConfig, step: int, max_steps: int) -> float:
    """What the base learning rate is multiplied by in step `step` (the first is 0).

    Warm-up rises linearly from 1/warmup_steps and reaches 1 at step warmup_steps - 1.
    Linear and cosine then fall from 1 to `final_ratio`, which the last step (max_steps - 1) uses.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.kind == "constant":
        return 1.0
    first = max(config.warmup_steps - 1, 0)
    progress = min((step - first) / max(max_steps - 1 - first, 1), 1.0)
    fallen = progress if config.kind == "linear" else (1.0 - math.cos(math.pi * progress)) / 2.0
    return 1.0 - (1.0 - config.final_ratio) * fallen
