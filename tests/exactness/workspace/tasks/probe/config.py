"""Config of the probe."""

from __future__ import annotations

from typing import Literal

from orchestra.config.schema import TaskConfig


class Config(TaskConfig):
    """See task.py."""

    kind: Literal["probe"] = "probe"
    train_utterances: int = 90
    loss_factor: float = 1.0
    """Large ones are too much for the loss scale that fp16 begins with."""
