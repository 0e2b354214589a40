"""A model of the hub, loaded: the very files that are recorded, and no network the second time."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestra.config.schema import HuggingFaceConfig
from orchestra.upstreams.huggingface import load_upstream
from orchestra.wire.errors import NotFoundError
from orchestra.wire.job import TAG
from tests.fetch.server import HubModel, Server, serving
from tests.upstreams.conftest import SaveModel

COMMIT = "a" * 40


@pytest.fixture
def hub(save_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    files = {path.name: path.read_bytes() for path in save_model("hubert").iterdir()}
    with serving() as server:
        server.models["lab/tiny"] = HubModel({COMMIT: files}, {"main": COMMIT})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def test_what_is_loaded_is_what_was_fetched(
    hub: Server, save_model: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model("hubert")
    fetched = load_upstream(HuggingFaceConfig(name="x", source="lab/tiny"))
    local = load_upstream(HuggingFaceConfig(name="x", source=str(folder)))
    expected, state = local.state_dict(), fetched.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    identity = fetched.identity()
    assert (identity["revision"], identity["weights_sha256"]) == (COMMIT, weights)
    assert identity["weights_sha256"] == local.identity()["weights_sha256"]
    # Another process of the run, perhaps where there is no network.
    asked = len(hub.requests)
    monkeypatch.setenv("ORCHESTRA_OFFLINE", "1")
    again = load_upstream(HuggingFaceConfig(name="x", source="lab/tiny", revision=COMMIT))
    assert again.identity() == identity
    assert len(hub.requests) == asked


def test_a_rank_fetches_nothing(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not beat meanwhile, and be killed as one that hangs."""
    config = HuggingFaceConfig(name="x", source="lab/tiny", revision=COMMIT)
    monkeypatch.setenv(TAG, "20260101-x.000001.0123")
    with pytest.raises(NotFoundError, match=r"lab/tiny@a{40} is not in .*: resume the run"):
        load_upstream(config)
    assert hub.requests == []
    monkeypatch.delenv(TAG)
    model = load_upstream(config)
    monkeypatch.setenv(TAG, "20260101-x.000001.0123")
    assert load_upstream(config).identity() == model.identity()


def test_a_config_names_no_other_weights(
    save_model: SaveModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    shutil.copytree(save_model("hubert"), folder)
    expected = load_upstream(HuggingFaceConfig(name="x", source=str(folder))).state_dict()
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t + 1 for name, t in tensors.items()}, folder / "other.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["transformers_weights"] = "other.safetensors"
    (folder / "config.json").write_text(json.dumps(config))
    state = load_upstream(HuggingFaceConfig(name="x", source=str(folder))).state_dict()
    assert all(torch.equal(expected[name], state[name]) for name in expected)
