"""Tables that CTC tasks have in their configs. Imports pydantic only: the CLI reads them too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from orchestra.config.schema import NonNegativeInt, Table

Dropout = Annotated[float, Field(ge=0, lt=1)]


class LinearHeadConfig(Table):
    """SUPERB's phone recognition: linear, linear; each frame for itself."""

    kind: Literal["linear"] = "linear"
    projection: PositiveInt = 256


class SuperbHeadConfig(Table):
    """SUPERB's: linear, bidirectional LSTMs, linear; as many frames out as in."""

    kind: Literal["superb"] = "superb"
    projection: PositiveInt = 1024
    hidden: PositiveInt = 1024
    """LSTM units per direction."""
    layers: PositiveInt = 2
    dropout: Dropout = 0.2


class SmallHeadConfig(Table):
    """For CPUs: neighbouring frames joined into one, small LSTMs, layer norms between.

    The layer norms let CTC leave its all-blank plateau within a hundred steps.
    """

    kind: Literal["small"] = "small"
    frame_ms: PositiveInt = 30
    """Longest joined frame, in milliseconds; CTC still needs a frame for each symbol."""
    projection: PositiveInt = 128
    hidden: PositiveInt = 128
    """LSTM units per direction."""
    layers: PositiveInt = 2
    dropout: Dropout = 0.1


CtcHeadConfig = LinearHeadConfig | SuperbHeadConfig | SmallHeadConfig


class SpecAugmentConfig(Table):
    """Augmentation of features in training; 0 switches a part off. Defaults: SUPERB's."""

    time_warp: NonNegativeInt = 5
    """Furthest move of the warped frame, in frames."""
    time_masks: NonNegativeInt = 2
    time_mask_frames: NonNegativeInt = 40
    """Widest time mask."""
    feature_masks: NonNegativeInt = 4
    feature_mask_dims: NonNegativeInt = 50
    """Widest feature mask."""


def _each_once(characters: str) -> str:
    doubled = sorted({c for c in characters if characters.count(c) > 1})
    if doubled:
        raise ValueError(f"each character may stand once, but {doubled} stand more often")
    if any(c.isspace() and c != " " for c in characters):
        raise ValueError("the only white space among the characters can be the space")
    return characters


CharacterSet = Annotated[str, Field(min_length=1), AfterValidator(_each_once)]
"""Output characters in order, one CTC symbol each."""

LIBRISPEECH_CHARACTERS = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
