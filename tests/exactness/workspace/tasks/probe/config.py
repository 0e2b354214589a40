"""Config of the probe."""

from __future__ import annotations

from typing import Literal

from orchestra.config.schema import TaskConfig


class Config(TaskConfig):
    """See task.py."""

    kind: Literal["probe"] = "probe"
    train_utterances: int = 90
