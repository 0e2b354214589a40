"""A tuned upstream as a folder of save_pretrained, which `--upstream FOLDER` and transformers load.

Written from tensors: no weights are loaded but those of layers that the run had cut off.
"""

from __future__ import annotations

import errno
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from orchestra.config.schema import HuggingFaceConfig
from orchestra.data import SAMPLE_RATE
from orchestra.upstreams.huggingface import class_of, config_of, load_upstream, quiet
from orchestra.upstreams.pretrained import Pretrained, read_pretrained, wanted
from orchestra.wire.errors import UsageError

_MODEL = "model."
"""Where a PretrainedUpstream has transformers' model."""


def save_upstream(config: HuggingFaceConfig, tensors: dict[str, Tensor], folder: Path) -> list[str]:
    """Write config.json, model.safetensors and preprocessor_config.json.

    Args:
        config: of the upstream that the run tuned.
        tensors: that upstream's, by their names in its state_dict.
        folder: not there yet.

    Returns:
        The names in model.safetensors that are not of `tensors`: above `upstream.layers` the model
        is completed with the layers it was pretrained with.

    Raises:
        NotFoundError, UsageError: the model it was tuned from can't be read, or is another now.
        OSError: the folder can't be written.
    """
    pretrained = read_pretrained(wanted(config))
    model = _without_weights(pretrained)
    state = {name.removeprefix(_MODEL): tensor for name, tensor in tensors.items()}
    own = model.state_dict()
    if any(name not in own or own[name].shape != tensor.shape for name, tensor in state.items()):
        raise UsageError(
            f"{config.source} is no longer the model that the run tuned: its config.json differs"
        )
    added = sorted(own.keys() - state.keys())
    if added:
        whole = load_upstream(config.model_copy(update={"layers": None})).state_dict()
        state |= {name: whole[_MODEL + name] for name in added}
    try:
        with quiet():
            model.save_pretrained(folder, state_dict=state)
            _save_preprocessor(pretrained, folder)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(folder)) from error
    return added


def _without_weights(pretrained: Pretrained) -> Any:
    """The model with names and shapes alone."""
    with torch.device("meta"):
        return class_of(pretrained)(config_of(pretrained))


def _save_preprocessor(pretrained: Pretrained, folder: Path) -> None:
    """What `read_pretrained` reads of it, in transformers' own form."""
    if not pretrained.family.takes_waveforms:
        if pretrained.preprocessor is not None:
            text = json.dumps(pretrained.preprocessor, indent=2)
            (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
        return
    transformers: Any = importlib.import_module("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE, do_normalize=pretrained.normalize, return_attention_mask=True
    )
    extractor.save_pretrained(folder)
