"""Config of the probe."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.config.schema import LabelChange, TaskConfig


class Config(TaskConfig):
    """See task.py."""

    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"crop", "speed"})

    kind: Literal["probe"] = "probe"
    train_utterances: int = 90
    loss_factor: float = 1.0
    """Large ones are too much for the loss scale that fp16 begins with."""
