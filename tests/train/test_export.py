"""An exported folder: whole or not there, with what its checkpoint held."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from orchestra.config.schema import HuggingFaceConfig
from orchestra.train import export as module
from orchestra.train.export import exporter
from orchestra.train.predictor import load_predictor
from orchestra.train.weights import read_weights_from
from orchestra.upstreams import build_upstream
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.files import write_json
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from tests.exactness.launching import REPOSITORY, WORKSPACE, write_job
from tests.train.exporting import STEP, export_of, trained, tuning_job
from tests.train.running import open_here
from tests.upstreams.conftest import SaveModel
from tests.upstreams.test_own import GOOD


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return write_job(tmp_path / "run")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_with_a_frozen_upstream_gives_head_and_config(job: Job, tmp_path: Path) -> None:
    model = trained(job)
    write_json(job.run.identity, {"id": "run", "name": "mine"})
    write_json(job.run.provenance, {"commit": "c0ffee"})
    document = export_of(job, tmp_path / "out")
    out = tmp_path / "out"
    assert names(out) == {"orchestra.json", "config.toml", "head.safetensors"}
    assert (out / "config.toml").read_bytes() == job.config.read_bytes()
    stored = safetensors.torch.load_file(out / "head.safetensors")
    assert stored.keys() == model.saved_state().keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.saved_state().items())
    assert document == json.loads((out / "orchestra.json").read_bytes())
    manifest = (job.run.checkpoint(STEP) / "manifest.json").read_bytes()
    assert document["checkpoint"] == {
        "step": STEP,
        "metric": "loss",
        "score": 0.5,
        "sha256": hashlib.sha256(manifest).hexdigest(),
    }
    assert document["run"] == {"id": "run", "name": "mine"}
    assert (document["task"], document["commit"]) == ("probe", "c0ffee")
    assert document["upstream"] == {"name": "fbank", "tuned": False, "untrained": []}
    assert weights.verify(out).step == STEP


def test_the_averages_are_exported(job: Job, tmp_path: Path) -> None:
    average = {"head.outer.bias": torch.full((3,), 7.0)}
    model = trained(job, average)
    export_of(job, tmp_path / "out")
    stored = safetensors.torch.load_file(tmp_path / "out" / "head.safetensors")
    assert torch.equal(stored["head.outer.bias"], average["head.outer.bias"])
    assert torch.equal(stored["head.inner.bias"], model.saved_state()["head.inner.bias"])


def test_a_tuned_upstream_is_usable_as_upstream(save_model: SaveModel, tmp_path: Path) -> None:
    job = tuning_job(tmp_path / "run", save_model("wav2vec2"))
    tuned = trained(job).upstream.eval()
    document = export_of(job, tmp_path / "out")
    folder = tmp_path / "out" / "upstream"
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} == names(folder)
    config = HuggingFaceConfig(name="tuned", source=str(folder))
    wavs, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
    with torch.no_grad():
        before = tuned(wavs, lengths).layers["hidden_states"]
        after = build_upstream(config)(wavs, lengths).layers["hidden_states"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert document["upstream"]["tuned"] and document["upstream"]["weights_sha256"]
    assert not any(
        name.startswith("upstream")
        for name in safetensors.torch.load_file(tmp_path / "out" / "head.safetensors")
    )
    assert {"upstream/config.json", "upstream/model.safetensors"} < document["files"].keys()


def test_a_tuned_own_upstream_comes_back_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    monkeypatch.setenv(CODE, str(tmp_path))
    job = tuning_job(tmp_path / "run", Path("mine.py"), kind="file")
    model = trained(job)
    document = export_of(job, tmp_path / "out")
    assert names(tmp_path / "out" / "upstream") == {"mine.py", "model.safetensors"}
    assert document["upstream"]["file_sha256"] == hashlib.sha256(GOOD.encode()).hexdigest()
    again = read_weights_from(tmp_path / "out", model)
    assert again.keys() == model.saved_state().keys() >= {"upstream.model.project.weight"}
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.saved_state().items())
    (tmp_path / "mine.py").unlink()
    load_predictor(job.config, WORKSPACE, tmp_path / "out", torch.device("cpu"), None)


def test_a_tuned_upstream_is_predicted_with_where_its_parts_are_gone(
    save_model: SaveModel, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    shutil.copytree(save_model("wav2vec2"), source)  # other tests have that one too
    parts = {"weights": str(source / "model.safetensors")}
    job = tuning_job(tmp_path / "run", source, parts=parts)
    trained(job)
    export_of(job, tmp_path / "out")
    shutil.rmtree(source)
    load_predictor(job.config, WORKSPACE, tmp_path / "out", torch.device("cpu"), None)


def test_a_folder_that_holds_something_is_refused_and_kept(job: Job, tmp_path: Path) -> None:
    trained(job)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(ConflictError, match="not an empty folder"):
        export_of(job, out)
    with pytest.raises(ConflictError, match="not an empty folder"):
        export_of(job, out / "mine")
    assert names(out) == {"mine"}
    (out / "mine").unlink()
    export_of(job, out)
    assert "orchestra.json" in names(out)


def test_a_damaged_checkpoint_is_not_exported(job: Job, tmp_path: Path) -> None:
    trained(job)
    path = job.run.checkpoint(STEP) / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadCheckpointError, match="sha256 differs; choose another with --checkp"):
        export_of(job, tmp_path / "out")
    assert names(tmp_path) == {"run"}


@pytest.mark.parametrize("where", ["_upstream", "_seal", "write_json", "sync_folder"])
def test_a_failure_leaves_what_was_there(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    trained(job)
    export_of(job, tmp_path / "out")
    before = (tmp_path / "out" / "orchestra.json").read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(module, where, fail)
        export_of(job, tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "orchestra.json").read_bytes() == before
    weights.verify(tmp_path / "out")
    export_of(job, tmp_path / "out", replace=True)
    assert names(tmp_path) == {"run", "out"}, "the next one tidies up"


def test_an_export_that_hangs_is_given_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take its time as long as it gets on."""
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(module, "moved_bytes", lambda pid: next(looks, 10))
    looks, ticks = iter(range(1, 11)), []
    with pytest.raises(OrchestraError, match="it had read and written nothing for"):
        exporter(open_here(job))(job.run.checkpoint(STEP), lambda: ticks.append(1))
    assert len(ticks) == 10


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestra.train import export
renames = iter(range(9))
def dying(path, target, rename=Path.rename):
    if str(path).endswith("export") or ".writing-" in str(path):
        if next(renames) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
Path.rename = dying
sys.argv = ["x", "--run", {run!r}, "--checkpoint", {checkpoint!r}, "--out", {out!r}, "--replace"]
sys.exit(export.main())
"""


def test_a_kill_between_the_renames_costs_no_export(job: Job, tmp_path: Path) -> None:
    trained(job)
    out = job.run.export
    export_of(job, out)
    program = KILLED.format(
        run=str(job.folder), checkpoint=str(job.run.checkpoint(STEP)), out=str(out)
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60)
    assert done.returncode == -9
    assert not out.exists(), "a negative control: it does strike between the two"
    exporter(open_here(job))
    weights.verify(out)
    assert not {name for name in names(job.folder) if name.startswith(".")}


def test_exporter_replaces_the_runs_export(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(job)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    session = open_here(job)
    export = exporter(session)
    moved = []
    monkeypatch.setattr(module, "_LOOK_S", 0.05)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    job.run.export.mkdir()
    (job.run.export / "older").touch()
    export(job.run.checkpoint(STEP), lambda: moved.append(1))
    assert moved, "it is seen to get on"
    assert torch.equal(state, torch.get_rng_state())
    assert "older" not in names(job.run.export)
    assert weights.verify(job.run.export).step == STEP
    with pytest.raises(OrchestraError, match=r"^cannot read .*step-00000099"):
        export(job.run.checkpoint(99), lambda: None)
    assert weights.verify(job.run.export).step == STEP
