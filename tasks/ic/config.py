"""Settings of intent classification."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.config.schema import LabelChange
from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """What is wanted? Labels are the manifests' `action`, `object` and `location`."""

    aliases: ClassVar[tuple[str, ...]] = ("fluent_commands",)
    # A cut may take a slot away.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"speed"})

    kind: Literal["ic"] = "ic"
