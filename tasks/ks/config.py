"""Settings of keyword spotting."""

from __future__ import annotations

from typing import ClassVar, Literal

from orchestra.config.schema import LabelChange
from orchestra.tasklib.classification_config import ClassificationConfig


class Config(ClassificationConfig):
    """Which of a few keywords is said? Labels are the manifests' `label`."""

    aliases: ClassVar[tuple[str, ...]] = ("speech_commands",)
    # A cut may take the word away.
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"speed"})

    kind: Literal["ks"] = "ks"
    class_weights: Literal["balanced", "none"] = "balanced"
    """In the loss: "balanced" lets every class count the same in an epoch, though each training
    utterance is seen once."""
