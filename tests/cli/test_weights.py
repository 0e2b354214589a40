"""Weights leave a run by `export` and come into another by `--init-from`. Real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.wire import weights
from tests.cli.conftest import SHORT, Cli, make_cli, stop_all

pytestmark = pytest.mark.slow
#: One step that moves no weight: the checkpoint holds what the run started from.
STILL = ("--set", "train.max_steps=1", "--set", "optim.lr=1e-30")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A workspace with one completed run, named `first`, that exports its best by itself."""
    cli = make_cli(tmp_path_factory.mktemp("weights") / "workspace")
    cli.ok("run", *SHORT, "--name", "first", "--seed", "5", "--set", "checkpoint.export_best=true")
    yield cli
    stop_all(cli)


def run_folder(cli: Cli, name: str) -> Path:
    return Path(cli.json("show", name)["folders"]["run"])


def model_file(folder: Path) -> Any:
    """Size and hash of a checkpoint's weights."""
    return json.loads((folder / "manifest.json").read_bytes())["files"]["model.safetensors"]


def test_export(trained: Cli) -> None:
    document = trained.json("export", "first", "models/first")
    folder = trained.root / "models" / "first"
    assert document["folder"] == str(folder)
    assert document["run"]["name"] == "first" and document["checkpoint"]["step"] == 10
    weights.verify(folder)
    again = trained("export", "first", "models/first")
    assert again.returncode == 4 and "not an empty folder" in again.stderr
    assert trained("export", "first", "models/other", "--checkpoint", "77").returncode == 3
    assert not (trained.root / "models" / "other").exists()


def test_the_best_was_exported_while_training(trained: Cli) -> None:
    run = run_folder(trained, "first")
    best = max(trained.json("show", "first")["checkpoints"], key=lambda item: item["score"] or 0)
    assert weights.verify(run / "export").step == best["step"]
    assert not list(run.glob(".export*"))


def test_a_run_starts_from_another_and_needs_it_no_more(trained: Cli) -> None:
    source = run_folder(trained, "first") / "checkpoints" / "step-00000010"
    copied = shutil.copytree(source, trained.root / "copied")
    planned = trained.ok("run", *SHORT, "--init-from", "first", "--dry-run")
    assert f"init      first: step 10 in {source}" in planned
    trained.ok("run", *SHORT, *STILL, "--name", "second", "--init-from", "./copied", "-q")
    shutil.rmtree(copied)
    shown = trained.json("show", "second")
    assert (shown["init"]["source"], shown["init"]["folder"]) == ("./copied", str(copied))
    assert f"init        ./copied ({copied})" in trained.ok("show", "second")
    assert trained.json("show", "first")["init"] is None
    last = run_folder(trained, "second") / "checkpoints" / "step-00000001"
    assert model_file(last) == model_file(source), "the very weights it was given"
    assert trained.json("config", "explain", "init.sha256", "second")["origin"] == "--init-from"


def test_weights_that_do_not_fit_end_the_run_with_a_remedy(trained: Cli) -> None:
    options = ("--name", "unfit", "--set", "upstream.mels=40", "--init-from", "first")
    failed = trained("run", *SHORT, *options)
    assert failed.returncode == 1
    reason = trained.json("show", "unfit")["reason"]
    assert "float32[32, 240] instead of float32[32, 120]" in reason
    assert "--set 'init.parts=[" in reason and "not retried" in reason


@pytest.mark.chaos
def test_evaluation_of_weights_from_elsewhere(trained: Cli) -> None:
    own = trained.json("show", "first")["evaluations"][0]
    shown = trained.ok("export", "first", "models/again")
    assert shown.startswith(f"{trained.root}/models/again\n  step 10, accuracy ")
    trained.ok("eval", "first", "--split", "test", "--init-from", "./models/again", "--cpu")
    found = trained.json("show", "first")["evaluations"][-1]
    assert found["metrics"] == own["metrics"] and found["checkpoint_step"] == 10
    assert found["checkpoint"] == str(trained.root / "models" / "again")
    assert found["checkpoint_source"] == "./models/again"
    assert found["checkpoint_sha256"] == weights.read_manifest(Path(found["checkpoint"])).sha256
    assert own["checkpoint_source"] is None
    both = ("--checkpoint", "10", "--init-from", "first")
    refused = trained("eval", "first", "--split", "test", *both)
    assert refused.returncode == 2 and "contradicts --checkpoint" in refused.stderr
