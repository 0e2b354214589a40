"""Tiny random speech models, saved as a user's model folders are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.upstreams.tiny import BASE, FAMILIES, LARGE, of_transformers

SaveModel = Callable[..., Path]


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
        tiny = FAMILIES[family]
        config = {**tiny.values, **((LARGE if large else BASE) if tiny.sizes else {}), **changes}
        key = json.dumps([family, config], sort_keys=True)
        if key not in saved:
            saved[key] = tmp_path_factory.mktemp(family)
            _save(saved[key], family, config, normalize=large)
        return saved[key]

    return save


def _save(folder: Path, family: str, config: dict[str, Any], *, normalize: bool) -> None:
    tiny = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = of_transformers(tiny.saved)(of_transformers(tiny.config)(**config))
        for parameter in model.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(1.0)
    model.save_pretrained(folder)
    if tiny.extractor is not None:
        name, arguments = tiny.extractor
        of_transformers(name)(**arguments).save_pretrained(folder)
        return
    preprocessor = {"do_normalize": normalize, "sampling_rate": 16000, "return_attention_mask": 0}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
