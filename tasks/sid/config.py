"""Settings of speaker identification."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.config.schema import LabelChange
from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """Which of the training split's speakers is it? Labels are the manifests' `label`."""

    aliases: ClassVar[tuple[str, ...]] = ("voxceleb1",)
    # Another speed is another voice.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"crop"})

    kind: Literal["sid"] = "sid"
