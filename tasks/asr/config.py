"""Settings of character CTC speech recognition. Imports pydantic only: the CLI reads it too."""

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
    """Character CTC. Transcripts are the manifests' `text`."""

    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"speed"})

    kind: Literal["asr"] = "asr"
    characters: CharacterSet = LIBRISPEECH_CHARACTERS
    """Output characters in order, one symbol each; the CTC blank is symbol 0, before them."""
    head: Annotated[SuperbHeadConfig | SmallHeadConfig, Field(discriminator="kind")] = (
        SuperbHeadConfig()
    )
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
