"""Settings of keyword spotting."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """Which of a few keywords is said? Labels are the manifests' `label`."""

    aliases: ClassVar[tuple[str, ...]] = ("speech_commands",)

    kind: Literal["ks"] = "ks"
    class_weights: Literal["balanced", "none"] = "balanced"
    """In the loss: "balanced" lets every class count the same in an epoch, though each training
    utterance is seen once."""
