"""Settings of speaker verification. Imports pydantic only: the CLI reads it too."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from orchestra.config.schema import LabelChange, TaskConfig


class Config(TaskConfig):
    """Speaker verification by an x-vector. Defaults: SUPERB's."""

    aliases: ClassVar[tuple[str, ...]] = ("sv_voxceleb1",)
    # Another speed is another voice.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"crop"})

    kind: Literal["asv"] = "asv"
    hidden: PositiveInt = 512
    """Channels of the linear layer on the features and of all time-delay layers but the last."""
    pooled: PositiveInt = 1500
    """Channels of the last time-delay layer, of which mean and deviation are taken."""
    embedding: PositiveInt = 512
    """Dimensions of an utterance's embedding."""
    scale: PositiveFloat = 30.0
    """What AM-softmax multiplies cosines by."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """What AM-softmax takes from the cosine to the right speaker."""
