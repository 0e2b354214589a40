"""Settings of speaker diarization. Imports pydantic only: the CLI reads it too."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from orchestra.config.schema import LabelChange, NonNegativeFloat, TaskConfig


class Config(TaskConfig):
    """Who speaks when, of a known number of speakers. Defaults: SUPERB's."""

    aliases: ClassVar[tuple[str, ...]] = ("diarization",)
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset()

    kind: Literal["sd"] = "sd"
    speakers: Annotated[int, Field(ge=1, le=6)] = 2
    """Most speakers of a recording: outputs of the head."""
    hidden: PositiveInt = 512
    """LSTM units."""
    layers: PositiveInt = 1
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Probability from which on a speaker is taken to speak."""
    median_frames: PositiveInt = 11
    """Width (odd) of the median filter over a speaker's decisions, in frames; 1 filters nothing."""
    collar_s: NonNegativeFloat = 0.0
    """Not scored on either side of each reference boundary."""

    @field_validator("median_frames")
    @classmethod
    def _odd(cls, frames: int) -> int:
        if frames % 2 == 0:
            raise ValueError("a median filter has an odd width")
        return frames
