"""Settings of intent classification."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """What is wanted? Labels are the manifests' `action`, `object` and `location`."""

    aliases: ClassVar[tuple[str, ...]] = ("fluent_commands",)

    kind: Literal["ic"] = "ic"
