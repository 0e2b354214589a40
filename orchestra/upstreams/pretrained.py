"""What a pretrained model says of itself: config.json and preprocessor_config.json.

`orchestra.fetch` gets them, from wherever they are. No torch here, so that describing a model costs
no import of it. Weights are neither loaded nor fetched.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from orchestra.config.schema import HuggingFaceConfig
from orchestra.data import SAMPLE_RATE
from orchestra.fetch.model import Model, Wanted, open_model
from orchestra.wire.errors import UsageError

FAMILIES = ("wav2vec2", "hubert", "wavlm")


@dataclass(frozen=True)
class Pretrained:
    """A model of one of `FAMILIES`, not loaded yet."""

    files: Model
    """Where its files are from; its weights are fetched when they are asked for."""
    config: dict[str, Any]
    """config.json as it is."""
    normalize: bool
    """Whether each waveform is brought to zero mean and unit variance first."""

    @property
    def source(self) -> str:
        """Hub id, URL or folder."""
        return self.files.wanted.source

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    @property
    def layers(self) -> int:
        """Hidden states: the input of each transformer layer, and the final output."""
        return int(self.config["num_hidden_layers"]) + 1

    @property
    def dim(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.config["conv_stride"])

    @property
    def min_samples(self) -> int:
        """Receptive field of one frame."""
        samples = 1
        layers = zip(self.config["conv_kernel"], self.config["conv_stride"], strict=True)
        for kernel, stride in reversed(list(layers)):
            samples = (samples - 1) * stride + kernel
        return samples

    def identity(self) -> dict[str, str]:
        """Which weights these are (see `Model.identity`)."""
        return self.files.identity()


def wanted(config: HuggingFaceConfig) -> Wanted:
    """The sources that a config names."""
    parts = config.parts.model_dump(exclude_none=True) if config.parts is not None else {}
    return Wanted(config.source, config.revision, parts)


def read_pretrained(source: Wanted, *, newest: bool = False) -> Pretrained:
    """Read the description of the model at a hub id, at a URL or in a folder.

    Args:
        newest: see `orchestra.fetch.model.open_model`.

    Raises:
        NotFoundError: there is no such thing, or it can't be reached.
        UsageError: it is no model, or not one that can be used.
        DataError: what was fetched is not what was promised.
    """
    files = open_model(source, newest=newest)
    config = json.loads(files.config.path.read_bytes())
    _check_config(source.source, config)
    files.check_weights()
    preprocessor = files.preprocessor
    if preprocessor is None:
        # Families trained on normalised waveforms are those without the first layer's group norm.
        normalize = config["feat_extract_norm"] == "layer"
    else:
        normalize = _wants_normalized(source.source, json.loads(preprocessor.path.read_bytes()))
    return Pretrained(files, config, normalize)


def _check_config(source: str, config: dict[str, Any]) -> None:
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UsageError(
            f"{source} is a model of type {family!r}; an upstream is one of {', '.join(FAMILIES)}"
        )
    for key in ("num_hidden_layers", "hidden_size"):
        if not isinstance(config.get(key), int):
            raise UsageError(f"config.json of {source}: {key!r} is not a number")
    kernels, strides = config.get("conv_kernel"), config.get("conv_stride")
    if not (_are_numbers(kernels) and _are_numbers(strides) and len(kernels) == len(strides)):
        raise UsageError(
            f"config.json of {source}: 'conv_kernel' and 'conv_stride' are not lists of one length"
        )
    if config.get("feat_extract_norm") not in ("group", "layer"):
        raise UsageError(f"config.json of {source}: 'feat_extract_norm' is not 'group' or 'layer'")


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(number, int) for number in value)


def _wants_normalized(source: str, preprocessor: dict[str, Any]) -> bool:
    rate = preprocessor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise UsageError(
            f"{source} was trained on {rate} Hz audio; upstreams are fed {SAMPLE_RATE} Hz"
        )
    # True is the default of the class that writes this file.
    return bool(preprocessor.get("do_normalize", True))
