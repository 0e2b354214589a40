"""Tiny random speech models, saved as a user's model folders are."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SaveModel = Callable[..., Path]

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    # Both must be switched off by the loader.
    "layerdrop": 0.9,
    "mask_time_prob": 0.5,
}
CLASSES = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
}
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> SaveModel:
    """`save_model(family, large=..., **config)` -> folder; one folder per request."""
    saved: dict[str, Path] = {}

    def save(family: str, *, large: bool = False, **changes: Any) -> Path:
        config = {**TINY, **(LARGE if large else BASE), **changes}
        key = json.dumps([family, config], sort_keys=True)
        if key not in saved:
            saved[key] = tmp_path_factory.mktemp(family)
            _save(saved[key], family, config, normalize=large)
        return saved[key]

    return save


def _save(folder: Path, family: str, config: dict[str, Any], *, normalize: bool) -> None:
    transformers = importlib.import_module("transformers")
    config_class, model_class = (getattr(transformers, name) for name in CLASSES[family])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**config))
        for parameter in model.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(1.0)
    model.save_pretrained(folder)
    preprocessor = {"do_normalize": normalize, "sampling_rate": 16000, "return_attention_mask": 0}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
