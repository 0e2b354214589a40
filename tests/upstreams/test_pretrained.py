"""Reading a model folder's description, as a program and as a function; no weights are loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestra.fetch.model import Wanted
from orchestra.upstreams.families.shapes import Shape
from orchestra.upstreams.pretrained import Pretrained
from orchestra.upstreams.pretrained import read_pretrained as read
from orchestra.wire.errors import DataError, NotFoundError, UsageError

CONFIG = {
    "model_type": "wavlm",
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "feat_extract_norm": "group",
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
NO_TENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))


def read_pretrained(source: str) -> Pretrained:
    return read(Wanted(source))


def model_folder(folder: Path, preprocessor: dict[str, Any] | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "model.safetensors").write_bytes(NO_TENSORS)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def test_shape_of_a_base_model(tmp_path: Path) -> None:
    model = read_pretrained(str(model_folder(tmp_path)))
    assert model.shape == Shape(layers=13, dim=768, stride=320, min_samples=400)


PARAKEET = {
    "model_type": "parakeet_encoder",
    "num_hidden_layers": 42,
    "hidden_size": 1024,
    "num_mel_bins": 80,
    "subsampling_factor": 8,
    "subsampling_conv_kernel_size": 3,
    "subsampling_conv_stride": 2,
}


def test_the_shape_of_a_part_is_in_its_own_table(tmp_path: Path) -> None:
    def shape(encoder: object) -> Shape:
        folder = model_folder(tmp_path, model_type="parakeet_ctc", encoder_config=encoder)
        return read_pretrained(str(folder)).shape

    assert shape(PARAKEET) == Shape(layers=43, dim=1024, stride=1280, min_samples=320)
    for encoder, said in (
        (None, "'encoder_config' is not a table"),
        ({**PARAKEET, "model_type": "wavlm"}, "'encoder_config' is a model of type 'wavlm'"),
        ({**PARAKEET, "model_type": "lasr_encoder"}, "a model of type 'lasr_encoder'"),
        ({**PARAKEET, "subsampling_conv_stride": 3}, "'subsampling_conv_stride' is not 2"),
    ):
        with pytest.raises(UsageError, match=rf"^config.json of .*{said}"):
            shape(encoder)


@pytest.mark.parametrize(
    ("preprocessor", "norm", "expected"),
    [
        ({"do_normalize": False}, "layer", False),
        ({"do_normalize": True}, "group", True),
        ({}, "group", True),
        (None, "layer", True),
        (None, "group", False),
    ],
)
def test_whether_waveforms_are_normalised(
    tmp_path: Path, preprocessor: dict[str, Any] | None, norm: str, expected: bool
) -> None:
    folder = model_folder(tmp_path, preprocessor, feat_extract_norm=norm)
    assert read_pretrained(str(folder)).normalize is expected


def test_folders_that_hold_no_usable_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        read_pretrained(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"has no config\.json"):
        read_pretrained(str(tmp_path))
    folder = model_folder(tmp_path / "a", model_type="bert")
    with pytest.raises(UsageError, match=r"type 'bert'.*wav2vec2, hubert, wavlm"):
        read_pretrained(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: it is not JSON"):
        read_pretrained(str(folder))
    folder = model_folder(tmp_path / "b", {"sampling_rate": 8000})
    with pytest.raises(UsageError, match="8000 Hz"):
        read_pretrained(str(folder))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": "large"}, "hidden_size"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"conv_stride": [5, 2]}, "conv_stride"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm"),
    ],
)
def test_configs_that_make_no_model_name_the_key(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=f"{named}' (is|are) not"):
        read_pretrained(str(model_folder(tmp_path, **change)))


def test_pickled_weights_alone_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"no model\.safetensors.*pickled weights are never"):
        read_pretrained(str(folder))


def test_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    before = read_pretrained(str(folder)).identity()
    assert before["source"] == str(folder)
    assert read_pretrained(str(folder)).identity() == before
    (folder / "model.safetensors").write_bytes(
        NO_TENSORS.replace(b"{}", b"{ }").replace(b"\2", b"\3")
    )
    assert read_pretrained(str(folder)).identity() != before


def test_a_hub_model_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "models--lab--model"
    snapshot = home / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(snapshot.name)
    snapshot.parent.mkdir()
    model_folder(snapshot, {"do_normalize": True})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = read_pretrained("lab/model")
    identity = model.identity()
    assert (identity["source"], identity["revision"]) == ("lab/model", snapshot.name)
    assert identity["weights_sha256"] == hashlib.sha256(NO_TENSORS).hexdigest()


@pytest.mark.parametrize("name", ["not a model!", "a/b/c"])
def test_a_name_that_is_no_hub_id(name: str) -> None:
    with pytest.raises(NotFoundError, match="neither a folder nor a hub id"):
        read_pretrained(name)


def describe(source: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestra.upstreams.describe", str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_describe_prints_json(tmp_path: Path) -> None:
    answer = describe(model_folder(tmp_path, {"do_normalize": False}))
    described = json.loads(answer.stdout)
    assert {key: described[key] for key in ("commit", "missing_bytes", "folder", "notes")} == {
        "commit": None,
        "missing_bytes": 0,
        "folder": str(tmp_path),
        "notes": [],
    }
    assert [file["name"] for file in described["files"]] == [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ]
    assert (
        described
        | {
            "source": str(tmp_path),
            "model_type": "wavlm",
            "layers": 13,
            "dim": 768,
            "stride": 320,
            "min_samples": 400,
            "normalize": False,
        }
        == described
    )
    assert answer.returncode == 0


def test_describe_ends_with_one_sentence_and_the_errors_code(tmp_path: Path) -> None:
    answer = describe(tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1
    assert "config.json" in answer.stderr


def test_describing_imports_no_torch() -> None:
    program = "import sys, orchestra.upstreams.describe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
