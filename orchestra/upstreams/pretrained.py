"""What a pretrained model says of itself: config.json and preprocessor_config.json.

`orchestra.fetch` gets them, from wherever they are. No torch here, so that describing a model costs
no import of it. Weights are neither loaded nor fetched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orchestra.config.schema import HuggingFaceConfig
from orchestra.data import SAMPLE_RATE
from orchestra.fetch.model import Model, Wanted, open_model
from orchestra.fetch.web import Web
from orchestra.upstreams.families import FAMILIES, Family
from orchestra.upstreams.families.shapes import ConfigFile, Shape
from orchestra.wire.errors import UsageError


@dataclass(frozen=True)
class Pretrained:
    """A model of one of `FAMILIES`, not loaded yet."""

    files: Model
    """Where its files are from; its weights are fetched when they are asked for."""
    config: dict[str, Any]
    """config.json as it is."""
    preprocessor: dict[str, Any] | None
    """preprocessor_config.json as it is; None if there is none."""
    normalize: bool
    """Whether each waveform is brought to zero mean and unit variance first."""
    shape: Shape

    @property
    def source(self) -> str:
        """Hub id, URL or folder."""
        return self.files.wanted.source

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    def identity(self) -> dict[str, str]:
        """Which weights these are (see `Model.identity`)."""
        return self.files.identity()


def wanted(config: HuggingFaceConfig) -> Wanted:
    """The sources that a config names."""
    parts = config.parts.model_dump(exclude_none=True) if config.parts is not None else {}
    return Wanted(config.source, config.revision, parts)


def read_pretrained(source: Wanted, *, newest: bool = False, web: Web | None = None) -> Pretrained:
    """Read the description of the model at a hub id, at a URL or in a folder.

    Args:
        newest, web: see `orchestra.fetch.model.open_model`.

    Raises:
        NotFoundError: there is no such thing, or it can't be reached.
        UsageError: it is no model, or not one that can be used.
        DataError: what was fetched is not what was promised.
    """
    files = open_model(source, newest=newest, web=web)
    config = json.loads(files.config.path.read_bytes())
    family = _family(source.source, config)
    shape = _shape(family, ConfigFile(source.source, config))
    files.check_weights()
    preprocessor = None
    if files.preprocessor is not None:
        preprocessor = json.loads(files.preprocessor.path.read_bytes())
        _require_rate(source.source, preprocessor)
    normalize = family.takes_waveforms and _wants_normalized(config, preprocessor)
    return Pretrained(files, config, preprocessor, normalize, shape)


def _family(source: str, config: dict[str, Any]) -> Family:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UsageError(
            f"{source} is a model of type {family!r}; an upstream is one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[family]


def _shape(family: Family, config: ConfigFile) -> Shape:
    if family.part is None:
        return family.shape(config)
    part = config.part(family.part)
    found = part.values.get("model_type")
    if found not in FAMILIES or FAMILIES[found].model != family.model:
        raise UsageError(
            f"config.json of {config.source}: {family.part!r} is a model of type {found!r}, which "
            "can't be used"
        )
    return family.shape(part)


def _require_rate(source: str, preprocessor: dict[str, Any]) -> None:
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UsageError(
            f"{source} was trained on {rate} Hz audio; upstreams are fed {SAMPLE_RATE} Hz"
        )


def _wants_normalized(config: dict[str, Any], preprocessor: dict[str, Any] | None) -> bool:
    if preprocessor is None:
        # Families trained on normalised waveforms are those without the first layer's group norm.
        return bool(config.get("feat_extract_norm", "layer") == "layer")
    # True is the default of the class that writes this file.
    return bool(preprocessor.get("do_normalize", True))
