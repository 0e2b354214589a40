"""A misbehaving server, a cache of one's own, and a client that does not sleep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestra.fetch.cache import Cache, cache_folder
from orchestra.fetch.retry import Patience
from orchestra.fetch.web import Web
from tests.fetch.server import Server, serving

CONFIG = {
    "model_type": "wavlm",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "feat_extract_norm": "group",
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
}
PREPROCESSOR = {"do_normalize": False, "sampling_rate": 16000}


def safetensors(fill: bytes = b"a", size: int = 300_000) -> bytes:
    """A file of one tensor."""
    entry = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    return len(header).to_bytes(8, "little") + header + fill * size


def model_files(fill: bytes = b"a") -> dict[str, bytes]:
    """A tiny model as save_pretrained writes it."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "preprocessor_config.json": json.dumps(PREPROCESSOR).encode(),
        "model.safetensors": safetensors(fill),
    }


@dataclass
class Told:
    """What the user was told, and the pauses that were made."""

    sentences: list[str] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)

    def web(self, **patience: Any) -> Web:
        return Web(self.sentences.append, Patience(**patience), self.pauses_s.append)


@pytest.fixture(scope="session")
def client() -> Iterator[httpx2.Client]:
    """One for all tests: each loads the machine's certificates (0.2 s)."""
    with Web(print).new_client(follow_redirects=False) as shared:
        yield shared


@pytest.fixture
def told(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(Web, "client", client)
    return Told()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    for name in ("ORCHESTRA_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return Cache(cache_folder())
