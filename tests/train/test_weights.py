"""A run starts from given weights, all of them or named parts; what doesn't fit is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from orchestra.config.frozen import dump, load, validate
from orchestra.train.model import SpeechModel
from orchestra.train.weights import load_initial, read_trained, read_weights_from
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import UsageError
from orchestra.wire.folders import Job
from orchestra.wire.job import Result, StopFlag
from tests.exactness.launching import write_job
from tests.train.exporting import STEP, export_of, model_of, trained, tuning_job
from tests.train.running import config_of, open_here, run_here
from tests.upstreams.conftest import SaveModel

SMALL = {"mels": 12}
"""An upstream of which the head's first layer is another."""


@pytest.fixture
def source(tmp_path: Path) -> Job:
    return write_job(tmp_path / "source")


def with_init(job: Job, folder: Path, parts: tuple[str, ...] = ()) -> Job:
    """`job` with a frozen `init` table and its own copy of the weights, as `run --init-from`."""
    manifest = weights.read_manifest(folder)
    table = {"source": "them", "folder": str(folder), "sha256": manifest.sha256, "parts": parts}
    document = load(job.config) | {"init": table}
    job.config.write_bytes(dump(validate(document, config_of(job)[1])))
    shutil.copytree(folder, job.run.init)
    return job


def started(job: Job) -> SpeechModel:
    model = model_of(job)
    load_initial(open_here(job), model)
    return model


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_a_run_starts_with_the_very_weights(source: Job, tmp_path: Path, kind: str) -> None:
    model = trained(source)
    folder = source.run.checkpoint(STEP)
    if kind == "export":
        folder = tmp_path / "export"
        export_of(source, folder)
    job = with_init(write_job(tmp_path / "run"), folder)
    shutil.rmtree(source.folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert same(started(job).saved_state(), model.saved_state())
    assert not same(model_of(job).saved_state(), model.saved_state()), "a negative control"


def test_without_init_nothing_changes(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run")
    assert same(started(job).saved_state(), model_of(job).saved_state())


def test_averages_are_what_is_taken(source: Job, tmp_path: Path) -> None:
    average = {"head.outer.bias": torch.full((3,), 7.0)}
    trained(source, average)
    job = with_init(write_job(tmp_path / "run"), source.run.checkpoint(STEP))
    assert torch.equal(started(job).saved_state()["head.outer.bias"], average["head.outer.bias"])


@pytest.mark.parametrize("choice", [{}, {"layers": 1}])
def test_a_tuned_upstream_comes_back(
    save_model: SaveModel, tmp_path: Path, choice: dict[str, Any]
) -> None:
    source = tuning_job(tmp_path / "source", save_model("wavlm"), **choice)
    model = trained(source)
    export_of(source, tmp_path / "export")
    job = tuning_job(tmp_path / "run", save_model("wavlm"), **choice)
    again = started(with_init(job, tmp_path / "export"))
    assert same(again.saved_state(), model.saved_state())


def test_a_file_that_an_export_does_not_list_is_not_read(
    save_model: SaveModel, tmp_path: Path
) -> None:
    job = tuning_job(tmp_path / "run", save_model("wav2vec2"))
    model = trained(job)
    out = tmp_path / "out"
    export_of(job, out)
    stored = safetensors.torch.load_file(out / "upstream/model.safetensors")
    others = {name: torch.zeros_like(tensor) for name, tensor in stored.items()}
    safetensors.torch.save_file(others, out / "upstream/zz.safetensors")
    weights.verify(out)
    assert same(read_weights_from(out, model), model.saved_state())


def test_the_layers_above_a_cut_come_with_an_export(save_model: SaveModel, tmp_path: Path) -> None:
    source = tuning_job(tmp_path / "source", save_model("wavlm"), layers=1)
    trained(source)
    export_of(source, tmp_path / "export")
    job = tuning_job(tmp_path / "run", save_model("wavlm"))
    assert any(
        "encoder.layers.2." in name
        for name in read_weights_from(tmp_path / "export", model_of(job))
    )
    started(with_init(job, tmp_path / "export", parts=("upstream",)))


def test_what_does_not_fit_is_named_with_the_remedy(
    source: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(source)
    job = write_job(tmp_path / "run", upstream=SMALL)
    with_init(job, source.run.checkpoint(STEP))
    with pytest.raises(UsageError) as caught:
        started(job)
    said = str(caught.value)
    assert str(source.run.checkpoint(STEP)) in caplog.text, "all of them are in the log"
    assert "the weights of them don't fit" in said and "1 tensor differs: " in said
    assert "head.inner.weight is float32[48, 20] instead of float32[48, 12]" in said
    assert """take what fits with --set 'init.parts=["head.norm", "head.outer"]'""" in said


def test_parts_are_taken_and_the_rest_stays_random(source: Job, tmp_path: Path) -> None:
    model = trained(source).saved_state()
    job = write_job(tmp_path / "run", upstream=SMALL)
    fresh = model_of(job).saved_state()
    with_init(job, source.run.checkpoint(STEP), ("head.norm", "head.outer.bias"))
    state = started(job).saved_state()
    for name, tensor in state.items():
        taken = name.startswith("head.norm.") or name == "head.outer.bias"
        assert torch.equal(tensor, model[name] if taken else fresh[name]), name


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("head.inner", "head.inner.weight is float32"),
        ("head.oute", "this run's model has no weights below 'head.oute'; its parts are head"),
        ("upstream", "this run's model has no weights below 'upstream'.*frozen upstream"),
    ],
)
def test_parts_that_do_not_fit(source: Job, tmp_path: Path, part: str, text: str) -> None:
    trained(source)
    job = write_job(tmp_path / "run", upstream=SMALL)
    with pytest.raises(UsageError, match=text):
        started(with_init(job, source.run.checkpoint(STEP), (part,)))


def test_a_part_that_the_source_lacks(save_model: SaveModel, source: Job, tmp_path: Path) -> None:
    trained(source)
    job = tuning_job(tmp_path / "run", save_model("hubert"))
    with pytest.raises(UsageError, match="them has no weights below 'featurizer'"):
        started(with_init(job, source.run.checkpoint(STEP), ("featurizer",)))


def test_a_tuned_upstream_for_a_frozen_one_is_told_of(
    save_model: SaveModel, tmp_path: Path
) -> None:
    source = tuning_job(tmp_path / "source", save_model("hubert"))
    trained(source)
    job = tuning_job(tmp_path / "run", save_model("hubert"), trainable=False)
    with pytest.raises(UsageError) as caught:
        started(with_init(job, source.run.checkpoint(STEP)))
    said = str(caught.value)
    assert "upstream.model.encoder" in said and " is unknown" in said and said.endswith(" more")
    assert """'init.parts=["featurizer", "head"]'""" in said and "--upstream DIR/upstream" in said


def test_a_damaged_copy_is_refused(source: Job, tmp_path: Path) -> None:
    trained(source)
    job = with_init(write_job(tmp_path / "run"), source.run.checkpoint(STEP))
    path = job.run.init / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadCheckpointError, match="sha256 differs"):
        started(job)


def test_other_weights_than_the_config_names_are_refused(source: Job, tmp_path: Path) -> None:
    trained(source)
    export_of(source, tmp_path / "export")
    job = with_init(write_job(tmp_path / "run"), source.run.checkpoint(STEP))
    shutil.rmtree(job.run.init)
    shutil.copytree(tmp_path / "export", job.run.init)
    with pytest.raises(BadCheckpointError, match=r"does not hold the weights that init.sha256"):
        started(job)


def test_a_checkpoint_of_another_model_is_told_on_resume(source: Job, tmp_path: Path) -> None:
    state = trained(source).saved_state()
    other = model_of(write_job(tmp_path / "run", upstream=SMALL))
    with pytest.raises(UsageError) as caught:
        other.load_saved_state({**state, "head.more": torch.zeros(2)})
    assert str(caught.value) == (
        "the checkpoint is of another model: 2 tensors differ: head.inner.weight is "
        "float32[48, 20] instead of float32[48, 12]; head.more float32[2] is unknown"
    )


def test_a_run_that_has_a_checkpoint_needs_them_no_more(source: Job, tmp_path: Path) -> None:
    trained(source)
    job = with_init(write_job(tmp_path / "run"), source.run.checkpoint(STEP))
    StopFlag(0.0, 30.0).write(job)
    run_here(job)
    job.stop.unlink()
    shutil.rmtree(job.run.init)
    run_here(job, 2)
    assert Result.read(job.attempt(2)) == Result("completed", 12)


def frozen_job(folder: Path, source: Path) -> Job:
    upstream = {"kind": "huggingface", "name": "tiny", "source": str(source)}
    return write_job(folder, upstream=upstream)


def alter(source: Path) -> None:
    """Another model in the same folder, of the same shape."""
    path = source / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: 2 * tensor for name, tensor in tensors.items()}, path)


def test_a_frozen_upstream_that_has_changed_is_refused(
    save_model: SaveModel, tmp_path: Path
) -> None:
    model = save_model("wav2vec2")
    job = frozen_job(tmp_path / "run", model)
    StopFlag(0.0, 30.0).write(job)
    run_here(job)
    job.stop.unlink()
    (folder,) = job.run.checkpoints.glob("step-*")
    assert read_trained(folder, model_of(job))
    alter(model)
    with pytest.raises(UsageError, match=f"weights of the upstream, {model}, is not what"):
        run_here(job, 2)
    with pytest.raises(UsageError, match="put that back, or start a new run"):
        read_trained(folder, model_of(job))
    assert read_weights_from(folder, model_of(job)), "another run may start from them"


def test_an_export_knows_its_frozen_upstream(save_model: SaveModel, tmp_path: Path) -> None:
    model = save_model("wav2vec2")
    job = frozen_job(tmp_path / "run", model)
    trained(job)
    export_of(job, tmp_path / "out")
    assert read_trained(tmp_path / "out", model_of(job))
    alter(model)
    with pytest.raises(UsageError, match="is not what this run was trained with"):
        read_trained(tmp_path / "out", model_of(job))
