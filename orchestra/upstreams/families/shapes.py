"""What config.json says about the hidden states of a model, by family. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from orchestra.upstreams.framing import SHIFT, WINDOW
from orchestra.wire.errors import UsageError

MOONSHINE = ((127, 64), (7, 3), (3, 2))
"""Kernel and stride of its convolutions, which no config tells."""


@dataclass(frozen=True)
class Shape:
    """Of the output "hidden_states"."""

    layers: int
    """Hidden states: the input of each block, and the final output."""
    dim: int
    stride: int
    """Samples from one frame to the next."""
    min_samples: int
    """What the first frame needs."""


@dataclass(frozen=True)
class ConfigFile:
    """A config.json that has not been looked at; each reader raises UsageError."""

    source: str
    values: Mapping[str, Any]

    def part(self, key: str) -> ConfigFile:
        """The config of a part of a larger model."""
        values = self.values.get(key)
        if not isinstance(values, dict):
            raise UsageError(f"config.json of {self.source}: {key!r} is not a table")
        return ConfigFile(self.source, values)

    def number(self, key: str) -> int:
        """A positive number."""
        value = self.values.get(key)
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"config.json of {self.source}: {key!r} is not a number")
        return value

    def convolutions(self) -> list[tuple[int, int]]:
        """Kernel and stride of each layer of the feature encoder."""
        kernels, strides = self.values.get("conv_kernel"), self.values.get("conv_stride")
        if not (_are_numbers(kernels) and _are_numbers(strides) and len(kernels) == len(strides)):
            raise UsageError(
                f"config.json of {self.source}: 'conv_kernel' and 'conv_stride' are not lists of "
                "one length"
            )
        return list(zip(kernels, strides, strict=True))

    def check_norm(self) -> None:
        """The feature encoder's norm is one of two."""
        if self.values.get("feat_extract_norm") not in ("group", "layer"):
            raise UsageError(
                f"config.json of {self.source}: 'feat_extract_norm' is not 'group' or 'layer'"
            )


def of_waveforms(config: ConfigFile) -> Shape:
    """A convolutional feature encoder with either norm, and a transformer."""
    shape = of_layer_normed_waveforms(config)
    config.check_norm()
    return shape


def of_layer_normed_waveforms(config: ConfigFile, frames: int = 1) -> Shape:
    """The same where layer norm is the only one; `frames` are needed at least."""
    layers, dim = config.number("num_hidden_layers") + 1, config.number("hidden_size")
    return _of_convolutions(layers, dim, config.convolutions(), frames)


def _of_convolutions(
    layers: int, dim: int, convolutions: Sequence[tuple[int, int]], frames: int = 1
) -> Shape:
    samples = frames
    for kernel, stride in reversed(convolutions):
        samples = (samples - 1) * stride + kernel
    return Shape(layers, dim, math.prod(stride for _, stride in convolutions), samples)


def of_speecht5(config: ConfigFile) -> Shape:
    """wav2vec2's feature encoder; blocks of the encoder alone."""
    layers, dim = config.number("encoder_layers") + 1, config.number("hidden_size")
    config.check_norm()
    return _of_convolutions(layers, dim, config.convolutions())


def of_moonshine(config: ConfigFile) -> Shape:
    """Convolutions that are the same in all models."""
    layers, dim = config.number("encoder_num_hidden_layers") + 1, config.number("hidden_size")
    return _of_convolutions(layers, dim, MOONSHINE)


def of_parakeet(config: ConfigFile) -> Shape:
    """A frame is `subsampling_factor` log mel frames; their variance needs two."""
    for key in ("num_mel_bins", "subsampling_conv_kernel_size"):
        config.number(key)
    if config.number("subsampling_conv_stride") != 2:
        raise UsageError(f"config.json of {config.source}: 'subsampling_conv_stride' is not 2")
    layers, dim = config.number("num_hidden_layers") + 1, config.number("hidden_size")
    return Shape(layers, dim, config.number("subsampling_factor") * SHIFT, 2 * SHIFT)


def of_squeezed_waveforms(config: ConfigFile) -> Shape:
    """A transformer on averages over `squeeze_factor` frames of the feature encoder."""
    factor = config.number("squeeze_factor")
    shape = of_layer_normed_waveforms(config, factor)
    config.check_norm()
    return Shape(shape.layers, shape.dim, shape.stride * factor, shape.min_samples)


def of_wav2vec2_bert(config: ConfigFile) -> Shape:
    """A frame is a pair of log mel frames."""
    if config.number("feature_projection_input_dim") % 2:
        raise UsageError(
            f"config.json of {config.source}: 'feature_projection_input_dim' is odd, but a frame "
            "is a pair of log mel frames"
        )
    layers, dim = config.number("num_hidden_layers") + 1, config.number("hidden_size")
    return Shape(layers, dim, 2 * SHIFT, WINDOW + SHIFT)


def of_whisper(config: ConfigFile) -> Shape:
    """Every second log mel frame."""
    for key in ("num_mel_bins", "max_source_positions"):
        config.number(key)
    layers, dim = config.number("encoder_layers") + 1, config.number("d_model")
    return Shape(layers, dim, 2 * SHIFT, WINDOW)


def of_spectrogram_transformer(config: ConfigFile) -> Shape:
    """A frame is a column of patches, averaged over frequency."""
    for key in ("max_length", "num_mel_bins", "frequency_stride"):
        config.number(key)
    layers, dim = config.number("num_hidden_layers") + 1, config.number("hidden_size")
    least = (config.number("patch_size") - 1) * SHIFT + WINDOW
    return Shape(layers, dim, config.number("time_stride") * SHIFT, least)


def _are_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(number, int) for number in value)
