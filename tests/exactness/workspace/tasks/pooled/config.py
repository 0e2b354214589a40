"""Config of the smallest task that reads recordings."""

from __future__ import annotations

from typing import Literal

from orchestra.config.schema import TaskConfig


class Config(TaskConfig):
    """See task.py."""

    kind: Literal["pooled"] = "pooled"
    classes: int = 3
