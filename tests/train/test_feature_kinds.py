"""What tells the features of one upstream from those of another, and which can't be kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from orchestra.data.feature_store import Kind
from orchestra.train.features import kind_of
from orchestra.upstreams.families.base import PretrainedUpstream
from orchestra.wire import features
from orchestra.wire.errors import UsageError
from orchestra.wire.job import CODE
from tests.train.cached import cached_job, model_of
from tests.train.running import config_of
from tests.upstreams.conftest import SaveModel

OWN = """
import json
from pathlib import Path

import torch
from orchestra.upstreams.base import Features, Upstream


class Scaled(Upstream):
    stride, min_samples = 160, 160

    def __init__(self, scale):
        super().__init__()
        self.scale = json.loads(Path(scale).read_text())  # no tensor

    def layer_dims(self, key):
        return [160]

    def extract(self, wavs, lengths):
        frames = self.scale * wavs.unfold(1, 160, 160)
        return Features({"hidden_states": [CHANGED]}, lengths // 160)
"""
Own = Callable[..., Kind]


@pytest.fixture
def hubert(save_model: SaveModel) -> Path:
    return save_model("hubert")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """The kind of a user's upstream that gives frames, times what stands in a file."""
    monkeypatch.setenv(CODE, str(tmp_path))
    (tmp_path / "upstreams").mkdir()

    def kind(scale: float, changed: str = "frames") -> Kind:
        (tmp_path / "scale.json").write_text(str(scale))
        (tmp_path / "upstreams/mine.py").write_text(OWN.replace("CHANGED", changed))
        options = {"scale": str(tmp_path / "scale.json")}
        upstream = {"kind": "file", "name": "mine", "options": options}
        folder = tmp_path / f"job{len(list(tmp_path.glob('job*')))}"
        job = cached_job(folder, Path("upstreams/mine.py"), upstream=upstream)
        return kind_of(config_of(job)[0], model_of(job))

    return kind


def test_other_weights_layers_and_precisions_are_other_kinds(
    tmp_path: Path, hubert: Path, save_model: SaveModel
) -> None:
    def kind(name: str, source: Path, **tables: dict[str, Any]) -> str:
        job = cached_job(tmp_path / name, source, **tables)
        return kind_of(config_of(job)[0], model_of(job)).name

    same = kind("a", hubert)
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in hubert.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert kind("b", moved) == same
    weights = moved / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors[sorted(tensors)[0]] += 1
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    assert kind("c", moved) != same
    weights.write_bytes((hubert / "model.safetensors").read_bytes())
    described = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**described, "layer_norm_eps": 0.1}))
    assert kind("d", moved) != same
    assert kind("e", hubert, cache={"layers": [0, 1, 2]}) != same
    assert kind("f", hubert, cache={"layers": [-4, 1, 2, 3]}) == same
    assert kind("g", hubert, train={"precision": "bf16"}) != same
    assert kind("h", hubert, upstream={"key": "last_hidden_state"}) != same
    assert kind("i", hubert, train={"deterministic": True}) != same, "a GPU then rounds otherwise"


def test_what_an_own_upstream_reads_besides_tells_its_features_apart(own: Own) -> None:
    first = own(1.0)
    assert own(1.0).name == first.name
    assert own(2.0).name != first.name


def test_an_own_upstream_that_is_random_is_refused(own: Own) -> None:
    state = torch.get_rng_state()
    with pytest.raises(UsageError, match="'mine' gives other features for the same audio each"):
        own(1.0, "torch.nn.functional.dropout(frames)")
    assert torch.equal(torch.get_rng_state(), state), "of the run's own generators"


def test_features_that_float16_would_round_away_are_refused(own: Own) -> None:
    own(1e-2)
    with pytest.raises(UsageError, match=r"layer 0 .* is so small .* float16 changes it by \d"):
        own(1e-6)


def test_what_is_computed_in_other_bits_is_another_kind(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by other threads, processors and libraries."""
    job = cached_job(tmp_path / "a", hubert)
    config = config_of(job)[0]
    same = kind_of(config, model_of(job)).name
    extract = PretrainedUpstream.extract

    def rounded(self: Any, wavs: torch.Tensor, lengths: torch.Tensor) -> Any:
        found = extract(self, wavs, lengths)
        found.layers["hidden_states"][2].view(torch.int32)[0, 0, 0] ^= 1
        return found

    monkeypatch.setattr(PretrainedUpstream, "extract", rounded)
    assert kind_of(config, model_of(job)).name != same


def test_other_code_of_ours_is_another_kind(
    tmp_path: Path, hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cached_job(tmp_path / "a", hubert)
    config, model = config_of(job)[0], model_of(job)
    code = features._CODE
    names = {str(path).rpartition("/orchestra/")[2] for path in code}
    assert names >= {"data/audio.py", "upstreams/padding.py", "upstreams/families/waveform.py"}
    same = kind_of(config, model).name
    edited = tmp_path / "edited.py"
    edited.write_bytes(code[0].read_bytes() + b"# edited\n")
    monkeypatch.setattr(features, "_CODE", (edited, *code[1:]))
    assert kind_of(config, model).name != same
