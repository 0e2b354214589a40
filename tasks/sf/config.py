"""Settings of slot filling. Imports pydantic only: the CLI reads it too."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestra.config.schema import LabelChange, TaskConfig
from orchestra.tasklib.ctc_config import (
    LIBRISPEECH_CHARACTERS,
    CharacterSet,
    SmallHeadConfig,
    SpecAugmentConfig,
    SuperbHeadConfig,
)


class Config(TaskConfig):
    """Character CTC with marks around slots. References are the manifests' `text` and `slots`."""

    aliases: ClassVar[tuple[str, ...]] = ("snips", "audio_snips")
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"speed"})

    kind: Literal["sf"] = "sf"
    characters: CharacterSet = LIBRISPEECH_CHARACTERS
    """Output characters in order; the marks of the slots that the training split has come after
    them, the CTC blank before."""
    unknown_character: Literal["refuse", "drop"] = "refuse"
    """What is done with a split in which a character is not among them: the run ends before its
    first step, or such characters are dropped from the references, counted and named in the log."""
    head: Annotated[SuperbHeadConfig | SmallHeadConfig, Field(discriminator="kind")] = (
        SuperbHeadConfig()
    )
    spec_augment: SpecAugmentConfig | None = SpecAugmentConfig()
