"""Settings of speaker identification."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """Which of the training split's speakers is it? Labels are the manifests' `label`."""

    aliases: ClassVar[tuple[str, ...]] = ("voxceleb1",)

    kind: Literal["sid"] = "sid"
