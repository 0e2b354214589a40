"""Pretrained models of transformers as upstreams: loading them, whatever their family.

Layer drop and the model's own masking augmentation are off. Weights come from safetensors only.
What each family needs besides is in `orchestra.upstreams.families`.

Importing this module is cheap; transformers (2 s) is imported by `load_upstream`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams import families
from orchestra.upstreams.families.base import PretrainedUpstream
from orchestra.upstreams.pretrained import Pretrained, read_pretrained, wanted
from orchestra.wire.errors import UsageError


def load_upstream(config: HuggingFaceConfig) -> PretrainedUpstream:
    """Read, load and adapt the model that `config.source` names.

    Raises:
        NotFoundError: no such folder or hub id, or the hub can't be reached.
        UsageError: the model's type, weights, outputs or layers don't fit the config.
    """
    pretrained = read_pretrained(wanted(config))
    module, name = pretrained.family.adapter
    adapter = getattr(importlib.import_module(f"{families.__name__}.{module}"), name)
    upstream: PretrainedUpstream = adapter(config, pretrained, _load_model(pretrained))
    return upstream


def class_of(pretrained: Pretrained) -> Any:
    """transformers' class of the model."""
    module, name = pretrained.family.model
    return getattr(importlib.import_module(f"transformers.models.{module}"), name)


def config_of(pretrained: Pretrained) -> Any:
    """transformers' config of the model as it is used here: without masking and layer drop."""
    part = pretrained.family.part
    values = pretrained.config[part] if part else pretrained.config
    # A config may name other weights than those that were fetched, hashed and recorded.
    overrides = {**pretrained.family.overrides, "transformers_weights": None}
    return class_of(pretrained).config_class.from_dict(values, **overrides)


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
            key_mapping=pretrained.family.renames,
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
