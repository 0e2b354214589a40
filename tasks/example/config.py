"""Config of the example task."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from orchestra.config.schema import LabelChange, TaskConfig


class Config(TaskConfig):
    """Which tone sounds in the noise?"""

    # Another speed is another tone, and a part may not have it.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset()

    kind: Literal["example"] = "example"
    classes: Annotated[int, Field(ge=2)] = 4
    """Tones, at equal ratios between 300 and 3,400 Hz."""
    train_utterances: PositiveInt = 400
    """Size of the split named by data.train."""
    other_utterances: PositiveInt = 61
    """Size of every other split; odd, so that no number of ranks divides it."""
    shortest_s: PositiveFloat = 0.3
    longest_s: PositiveFloat = 1.2
    noise: NonNegativeFloat = 0.2
    """Standard deviation of the noise, relative to the tone's amplitude."""
    hidden: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    delay_s: NonNegativeFloat = 0.0
    """Pause in each training forward pass: makes a run long enough to be stopped or killed."""
