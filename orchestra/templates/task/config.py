"""Settings of newtask, with defaults: what `--set task.hidden=64` and the preset change.

Every command reads this file, so that it imports nothing heavy (no torch, no NumPy).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from orchestra.config.schema import TaskConfig


class Config(TaskConfig):
    """Which class does a recording belong to?"""

    kind: Literal["newtask"] = "newtask"
    hidden: PositiveInt = 32
    """Width of the layer below the classes."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
