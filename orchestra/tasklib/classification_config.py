"""Settings of tasks that classify whole utterances. Pydantic only: the CLI reads it too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from orchestra.config.schema import Share, Table, TaskConfig


class SuperbHeadConfig(Table):
    """SUPERB's: linear, mean over time, linear; nothing in between."""

    kind: Literal["superb"] = "superb"
    projection: PositiveInt = 256


class SmallHeadConfig(Table):
    """For filter banks: convolutions over time, mean and deviation over time, linear."""

    kind: Literal["small"] = "small"
    channels: PositiveInt = 128
    dropout: Share = 0.1


class ClassificationConfig(TaskConfig):
    """Base of the tasks' own. Classes are those of the training split."""

    head: Annotated[SuperbHeadConfig | SmallHeadConfig, Field(discriminator="kind")] = (
        SuperbHeadConfig()
    )
    unseen: Literal["refuse", "count"] = "refuse"
    """A label outside of the training split, in another split: ends the run, or counts as wrong
    and in the metric `unseen`."""
