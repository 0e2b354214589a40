"""wav2vec2, HuBERT and WavLM models of transformers as upstreams.

What an utterance's features are never depends on the padding it got: waveforms are normalised over
their own samples, attention masks are always passed (whatever the model's preprocessor says), and
the layers of `orchestra.upstreams.padding` are replaced. Layer drop and the model's own masking
augmentation are off. Weights come from safetensors only.

Importing this module is cheap; transformers (2 s) is imported by `load_upstream`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams.base import Features, Upstream, valid_mask
from orchestra.upstreams.featurizer import choose_layer
from orchestra.upstreams.padding import (
    Lengths,
    mask_first_convolution,
    mask_positional_convolution,
)
from orchestra.upstreams.pretrained import Pretrained, read_pretrained, wanted
from orchestra.wire.errors import UsageError

HIDDEN_STATES = "hidden_states"
LAST_HIDDEN_STATE = "last_hidden_state"

_MODEL_CLASSES = {
    "wav2vec2": ("transformers.models.wav2vec2.modeling_wav2vec2", "Wav2Vec2Model"),
    "hubert": ("transformers.models.hubert.modeling_hubert", "HubertModel"),
    "wavlm": ("transformers.models.wavlm.modeling_wavlm", "WavLMModel"),
}
# No mask probability, no mask embedding: it would be a parameter without a gradient. The adapter
# is a decoder's front end whose strided convolutions look at padding.
_OVERRIDES = {
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "add_adapter": False,
}
_NORMALIZE_EPS = 1e-7  # transformers' Wav2Vec2FeatureExtractor


class HuggingFaceUpstream(Upstream):
    """A loaded model. Frozen unless `config.trainable`: in eval mode, without gradients.

    Where the config asks for one layer, those above it are dropped and never computed;
    `Features.layers["hidden_states"]` then ends with the one asked for.
    """

    def __init__(self, config: HuggingFaceConfig, pretrained: Pretrained, model: nn.Module) -> None:
        super().__init__()
        self.stride = pretrained.stride
        self.min_samples = pretrained.min_samples
        self.trainable = config.trainable
        self.key = config.key
        self.normalize = pretrained.normalize
        self.pretrained = pretrained
        self.model: Any = model
        self.after_first_convolution = Lengths()
        self.frames = Lengths()
        mask_first_convolution(model, self.after_first_convolution)
        mask_positional_convolution(model, self.frames)
        self.requires_grad_(config.trainable)
        dims = self.layer_dims(config.key)
        layer = choose_layer(config.layers, dims, config.key)
        self.is_cut = config.key == HIDDEN_STATES and layer is not None and layer < len(dims) - 1
        if self.is_cut and layer is not None:
            _cut_above(model, layer)
        self.train()

    def layer_dims(self, key: str) -> list[int]:
        """ "hidden_states": one per layer and the final output; "last_hidden_state": that alone."""
        dim = self.pretrained.dim
        counts = {HIDDEN_STATES: self.pretrained.layers, LAST_HIDDEN_STATE: 1}
        if key not in counts:
            raise UsageError(
                f"upstream.key = {key!r}: {self.pretrained.source} has the outputs "
                f"{HIDDEN_STATES!r} and {LAST_HIDDEN_STATE!r}"
            )
        return [dim] * counts[key]

    def identity(self) -> dict[str, str]:
        """Source, the hub's commit, hashes of the weights and the config."""
        return self.pretrained.identity()

    def train(self, mode: bool = True) -> HuggingFaceUpstream:
        """Train mode switches dropout on; a frozen model ignores it."""
        super().train(mode and self.trainable)
        return self

    def extract(self, wavs: Tensor, lengths: Tensor) -> Features:
        """See `Upstream.forward`."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            valid = valid_mask(lengths, wavs.shape[1])
            if self.normalize:
                wavs = normalize(wavs, valid, lengths)
            frame_lengths = self._set_lengths(lengths)
            output = self.model(
                wavs.masked_fill(~valid, 0.0),
                attention_mask=valid.long(),
                output_hidden_states=self.key == HIDDEN_STATES,
            )
        return Features({self.key: self._layers(output)}, frame_lengths)

    def _set_lengths(self, lengths: Tensor) -> Tensor:
        config = self.model.config
        first = (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
        self.after_first_convolution.valid = first
        frame_lengths: Tensor = self.model._get_feat_extract_output_lengths(lengths).long()
        self.frames.valid = frame_lengths
        return frame_lengths

    def _layers(self, output: Any) -> list[Tensor]:
        last: Tensor = output.last_hidden_state
        if self.key == LAST_HIDDEN_STATE:
            return [last]
        if self.is_cut:
            return list(output.hidden_states)
        # transformers 5 captures the last layer's output before the encoder's final layer norm.
        return [*output.hidden_states[:-1], last]


def load_upstream(config: HuggingFaceConfig) -> HuggingFaceUpstream:
    """Read, load and adapt the model that `config.source` names.

    Raises:
        NotFoundError: no such folder or hub id, or the hub can't be reached.
        UsageError: the model's type, weights, outputs or layers don't fit the config.
    """
    pretrained = read_pretrained(wanted(config))
    return HuggingFaceUpstream(config, pretrained, _load_model(pretrained))


def normalize(wavs: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each row's valid samples, as the models were trained."""
    count = lengths.unsqueeze(1)
    mean = wavs.masked_fill(~valid, 0.0).sum(1, keepdim=True) / count
    centred = (wavs - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * (variance + _NORMALIZE_EPS).rsqrt()


def _cut_above(model: Any, layer: int) -> None:
    """Drop what hidden state `layer` does not depend on."""
    encoder = model.encoder
    # The first layer stays even if its input alone is wanted: transformers captures it there.
    encoder.layers = encoder.layers[: max(layer, 1)]
    if layer == 0:
        encoder.layers.requires_grad_(False)
    if model.config.do_stable_layer_norm:
        encoder.layer_norm.requires_grad_(False)


def class_of(pretrained: Pretrained) -> Any:
    """transformers' class of the model."""
    module, name = _MODEL_CLASSES[pretrained.model_type]
    return getattr(importlib.import_module(module), name)


def config_of(pretrained: Pretrained) -> Any:
    """transformers' config of the model as it is used here: without masking and layer drop."""
    return class_of(pretrained).config_class.from_dict(pretrained.config, **_OVERRIDES)


def _load_model(pretrained: Pretrained) -> nn.Module:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    source = pretrained.source
    model_class = class_of(pretrained)
    # WavLM itself passes masks of two types; torch would say so in the log of every rank.
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask")
    try:
        with quiet():
            model_config = config_of(pretrained)
            model, loading = _from_folder(model_class, model_config, pretrained)
    except SafetensorError as error:
        raise UsageError(f"the weights of {source} are damaged: {error}") from error
    except (StrictDataclassError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"config.json of {source} can't be used: {reason}") from error
    _check_loading(source, loading)
    return model  # type: ignore[no-any-return]


def _check_loading(source: str, loading: dict[str, Any]) -> None:
    """transformers would draw at random what a file lacks."""
    misfits = sorted(key for key, *_ in loading["mismatched_keys"])
    if misfits:
        raise UsageError(
            f"the weights of {source} don't fit its config.json: {misfits[0]} has another shape"
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UsageError(
            f"the weights of {source} lack {len(missing)} parameters that its config.json "
            f"promises, {missing[0]} first"
        )


def _from_folder(model_class: Any, model_config: Any, pretrained: Pretrained) -> Any:
    """(model, loading report). Half-precision files are widened: precision is autocast's affair."""
    try:
        return model_class.from_pretrained(
            pretrained.files.folder(),
            local_files_only=True,
            config=model_config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, then refused in one sentence
        )
    except OSError as error:
        raise UsageError(f"cannot load {pretrained.source}: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers: what matters of them is checked here."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
