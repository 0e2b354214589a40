"""Settings of emotion recognition."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestra.config.schema import LabelChange
from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """Which of four emotions is it? Labels are the manifests' `label`."""

    aliases: ClassVar[tuple[str, ...]] = ("emotion",)
    # Tempo and pitch carry the emotion.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"crop"})

    kind: Literal["er"] = "er"
    fold: Annotated[int, Field(ge=1, le=5)] = 1
    """The session that is tested on; the preset's splits follow it."""
