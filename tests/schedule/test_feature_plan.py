"""The size of the feature cache is told, and refused, before a run starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestra.config.schema import RunConfig
from orchestra.schedule import upstreams
from orchestra.schedule.feature_plan import feature_plan
from orchestra.schedule.preflight import PreflightError, preflight
from orchestra.wire.errors import UsageError
from orchestra.wire.features import entry_path, makers
from orchestra.wire.files import write_json
from orchestra.wire.folders import RunsFolder
from orchestra.wire.manifest import write_manifest
from tests.train.toy import toy_config

MODEL = {
    "source": "lab/model",
    "layers": 13,
    "dim": 768,
    "stride": 320,
    "min_samples": 400,
    "commit": None,
    "files": [],
}
HUBERT = {"kind": "huggingface", "name": "hubert", "source": "lab/model"}
SPLITS = ("train", "dev", "test")


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 GiB are free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(2**40, 0, 100 * 2**30))


def configured(tmp_path: Path, **tables: dict[str, Any]) -> RunConfig:
    """Ten hours of training, one each of dev and test."""
    for split, hours in {"train": 10, "dev": 1, "test": 1}.items():
        lines = [{"id": f"{split}{n}", "path": "x", "duration_s": 3600.0} for n in range(hours)]
        write_manifest(tmp_path / "m", split, lines, "a test")
    cache = {"features": True, **tables.pop("cache", {})}
    upstream = {**HUBERT, **tables.pop("upstream", {})}
    data = {"manifests": str(tmp_path / "m"), **tables.pop("data", {})}
    return toy_config(**tables, cache=cache, upstream=upstream, data=data)


def planned(tmp_path: Path, config: RunConfig, splits: tuple[str, ...] = SPLITS) -> str:
    return feature_plan(config, RunsFolder(tmp_path / "runs"), splits, MODEL)


def test_size_of_all_splits(tmp_path: Path) -> None:
    text = planned(tmp_path, configured(tmp_path))
    assert text.startswith("40.2 GiB for train+dev+test (12.00 h, 13 of 13 layers); 0 B of such")
    assert text.endswith(f"100.0 GiB free at {tmp_path}/runs/.features")
    joint = planned(tmp_path, configured(tmp_path), ("train+dev", "dev"))
    assert joint.startswith("36.8 GiB for train+dev (11.00 h")


def test_fewer_layers_are_smaller(tmp_path: Path) -> None:
    assert "6.2 GiB" in planned(tmp_path, configured(tmp_path, cache={"layers": [6, 12]}))
    assert "3.1 GiB" in planned(tmp_path, configured(tmp_path, upstream={"layers": 6}))
    one = configured(tmp_path, upstream={"key": "last_hidden_state"})
    assert "3.1 GiB" in planned(tmp_path, one) and "1 of 1 layers" in planned(tmp_path, one)
    with pytest.raises(UsageError, match="no layer 13; the upstream has 13, from 0 to 12"):
        planned(tmp_path, configured(tmp_path, cache={"layers": [13]}))


def test_more_than_the_budget_is_refused_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        planned(tmp_path, configured(tmp_path, cache={"max_gb": 40.0}))
    assert "40.2 GiB" in str(caught.value) and "cache.max_gb = 40: raise it" in str(caught.value)


def test_more_than_is_free_is_refused_unless_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(2**40, 0, 10 * 2**30))
    with pytest.raises(UsageError, match=r"only 10.0 GiB are free on the disk of .*cache.folder"):
        planned(tmp_path, config)
    features = tmp_path / "runs/.features"
    kind = {"source": "lab/model", "output": "hidden_states", "layers": list(range(13))}
    kind |= {"threads": 1, **makers()}
    path = entry_path(features, "0" * 16, "aa1")
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr("orchestra.wire.features._sizes", lambda kind: iter([40 * 2**30]))
    kind["device"] = "cpu"
    write_json(features / ("0" * 16) / "kind.json", {**kind, "precision": "fp32"})
    assert "40.0 GiB of such are there" in planned(tmp_path, config)
    write_json(features / ("0" * 16) / "kind.json", {**kind, "precision": "bf16"})
    with pytest.raises(UsageError, match=r"0 B are there"):
        planned(tmp_path, config)


def test_the_budget_is_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other features take counts; a run whose own are all there needs no more room."""
    kind = {"source": "lab/other", "output": "hidden_states", "layers": list(range(13))}
    kind |= {"device": "cpu", "precision": "fp32", "threads": 1, **makers()}
    document = tmp_path / "runs/.features" / ("0" * 16) / "kind.json"
    document.parent.mkdir(parents=True)
    write_json(document, kind)
    monkeypatch.setattr("orchestra.wire.features._sizes", lambda kind: iter([70 * 2**30]))
    config = configured(tmp_path)
    with pytest.raises(UsageError, match=r"holds 70.0 GiB already, .* cache.max_gb = 100: make"):
        planned(tmp_path, config)
    write_json(document, {**kind, "source": "lab/model"})
    assert "70.0 GiB of such are there" in planned(tmp_path, config)
    for cause in ({"code_sha256": "0" * 64}, {"versions": {"torch": "1.0"}}, {"threads": 2}):
        write_json(document, {**kind, "source": "lab/model", **cause})
        with pytest.raises(UsageError, match=r", 0 B are there, but .* holds 70.0 GiB already"):
            planned(tmp_path, config)


def test_a_folder_that_cannot_be_written_is_refused_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = configured(tmp_path, cache={"folder": str(tmp_path / "file")})
    with pytest.raises(UsageError, match=r"file can't be written to: set cache.folder"):
        planned(tmp_path, config)


def test_preflight_says_it_and_an_evaluation_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstreams, "describe", lambda *a, **k: MODEL)
    runs = RunsFolder(tmp_path / "runs")
    config = configured(tmp_path, batch={"max_micro_seconds": 4000.0}, data={"test": ["test"]})

    def detail(config: RunConfig, splits: tuple[str, ...] | None = None) -> str:
        found = preflight(config, runs, cpu_command="", splits=splits)
        return next(f.detail for f in found if f.what == "feature cache")

    assert detail(config).startswith("40.2 GiB for train+dev+test")
    assert detail(config, ("test",)).startswith("3.3 GiB for test")
    small = configured(
        tmp_path, cache={"max_gb": 1.0}, batch={"max_micro_seconds": 4000.0}, data={}
    )
    with pytest.raises(PreflightError, match=r"more than cache.max_gb = 1"):
        detail(small)
    assert "more than cache.max_gb = 1" in detail(small, ("test",))


def test_features_without_weights_are_refused(tmp_path: Path) -> None:
    config = toy_config(cache={"features": True})
    with pytest.raises(PreflightError, match=r"'fbank' has no weights .* cache.features = false"):
        preflight(config, RunsFolder(tmp_path / "runs"), cpu_command="")
