"""Config of the faulty task."""

from __future__ import annotations

from typing import Literal

from orchestra.config.schema import TaskConfig


class Config(TaskConfig):
    """See task.py."""

    kind: Literal["faulty"] = "faulty"
    fault: Literal["none", "nan", "gradient", "error", "usage", "target", "read"] = "none"
    guilty: str = "train-7"
    """The utterance that it comes from; "*" is every one."""
