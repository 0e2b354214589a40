"""Settings of phone recognition. Imports pydantic only: the CLI reads it too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orchestra.config.schema import LabelChange, TaskConfig
from orchestra.tasklib.ctc_config import LinearHeadConfig, SmallHeadConfig, SpecAugmentConfig


class Config(TaskConfig):
    """Phone CTC. References are the manifests' `text`, looked up in a lexicon, or `phones`."""

    aliases: ClassVar[tuple[str, ...]] = ("libriphone",)
    keeps_labels_under: ClassVar[frozenset[LabelChange]] = frozenset({"speed"})

    kind: Literal["pr"] = "pr"
    lexicon: list[Path] = Field(default_factory=list)
    """Files of "WORD PHONE PHONE ..." lines, as LibriSpeech's lexicon or CMUdict; of several
    pronunciations the first is taken. None: the manifests hold `phones`, with spaces between."""
    missing_word: Literal["refuse", "leave-out"] = "refuse"
    """What is done with a split in which a word is not in the lexicon: the run ends before its
    first step, or such utterances are left out, counted and named in the log."""
    stress: Literal["keep", "strip"] = "keep"
    """Whether AH0 and AH1 are two phones, or both are AH."""
    head: Annotated[LinearHeadConfig | SmallHeadConfig, Field(discriminator="kind")] = (
        LinearHeadConfig()
    )
    spec_augment: SpecAugmentConfig | None = None
    """SUPERB has none here."""
