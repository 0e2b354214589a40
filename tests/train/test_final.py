"""Recorded evaluations: the same checkpoint gives the same number, again and again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestra.train import checkpoint
from orchestra.train.export import export
from orchestra.wire import checkpoints, weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import DataError
from orchestra.wire.folders import EvaluationFolder, Job
from orchestra.wire.job import EvaluationSpec, Result
from tests.exactness.launching import write_job
from tests.train.running import config_of, records_of, run_here

SPEED = {"seconds_per_utterance", "real_time_factor"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A completed run of the example task, one of whose test splits has no labels."""
    job = write_job(
        tmp_path_factory.mktemp("finished") / "run",
        kind="example",
        task={"train_utterances": 60, "other_utterances": 13},
        data={"test": ["test", "unlabelled"]},
        train={"max_steps": 8, "eval_every": 4},
        optim={"lr": 0.1},
    )
    run_here(job)
    return job


@pytest.fixture
def copy(finished: Job, tmp_path: Path) -> Job:
    return Job("train", Path(shutil.copytree(finished.folder, tmp_path / "run")))


def read(evaluation: EvaluationFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(evaluation.metrics.read_text())
    return document


def evaluate_again(
    job: Job, number: int, reference: str, split: str = "test", **more: str
) -> EvaluationFolder:
    """As `orchestra eval` has it done."""
    target = job.run.evaluation(number)
    target.path.mkdir()
    shutil.copy(job.config, target.job.config)
    EvaluationSpec(split, reference, 0.0, **more).write(target)
    run_here(target.job)
    return target


def test_the_run_ends_with_each_test_split(finished: Job) -> None:
    assert Result.read(finished.attempt(1)) == Result("completed", 8)
    scored, bare = (read(finished.run.evaluation(number)) for number in (1, 2))
    assert (scored["split"], bare["split"]) == ("test", "unlabelled")
    assert set(scored["metrics"]) == {"accuracy"}
    assert bare["metrics"] == {}
    for number in (1, 2):
        lines = finished.run.evaluation(number).predictions.read_text().splitlines()
        assert len(lines) == 13


def test_speed_is_recorded(finished: Job) -> None:
    records = records_of(finished)
    for kind in ("validation", "evaluation"):
        values = [record.values for record in records if record.kind == kind]
        assert values
        assert all(value[name] > 0 for value in values for name in SPEED)
    document = read(finished.run.evaluation(1))
    assert all(document[name] > 0 for name in SPEED)


@pytest.mark.parametrize("split", ["test", "unlabelled"])
def test_evaluating_again_gives_the_same_number_and_predictions(copy: Job, split: str) -> None:
    own = copy.run.evaluation(1 if split == "test" else 2)
    again = [evaluate_again(copy, number, "best", split) for number in (3, 4)]
    assert len({path.predictions.read_bytes() for path in (own, *again)}) == 1
    documents = [read(path) for path in (own, *again)]
    for name in ("metrics", "checkpoint", "utterances", "audio_s", "data"):
        assert documents[0][name] == documents[1][name] == documents[2][name]


def test_another_checkpoint_gives_other_predictions(copy: Job) -> None:
    best = read(copy.run.evaluation(1))["checkpoint"]["step"]
    steps = [checkpoints.read_manifest(p).step for p in checkpoints.committed(copy.run.checkpoints)]
    other = next(step for step in steps if step != best)
    found = evaluate_again(copy, 3, str(other))
    assert read(found)["checkpoint"]["step"] == other
    assert found.predictions.read_bytes() != copy.run.evaluation(1).predictions.read_bytes()


def test_an_export_gives_what_its_checkpoint_gave(copy: Job, tmp_path: Path) -> None:
    best = copy.run.checkpoint(read(copy.run.evaluation(1))["checkpoint"]["step"])
    export(best, tmp_path / "out", copy.run, config_of(copy)[0])
    sha256 = weights.verify(tmp_path / "out").sha256
    again = evaluate_again(copy, 3, str(tmp_path / "out"), sha256=sha256, source="mine")
    assert again.predictions.read_bytes() == copy.run.evaluation(1).predictions.read_bytes()
    step = int(best.name.split("-")[1])
    told = {"step": step, "path": str(tmp_path / "out"), "sha256": sha256, "source": "mine"}
    assert read(again)["checkpoint"] == told
    with pytest.raises(BadCheckpointError, match="out changed since"):
        evaluate_again(copy, 4, str(tmp_path / "out"), sha256="0" * 64)


def test_evaluation_gives_the_validations_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averaged weights are what is validated, hence what is evaluated."""
    job = write_job(tmp_path / "run", optim={"ema_decay": 0.9}, train={"max_steps": 5})
    validated = [r.values["loss"] for r in run_here(job) if r.kind == "validation"]
    assert [read(evaluate_again(job, 2, "last", "dev"))["metrics"]["loss"]] == validated
    monkeypatch.setattr(checkpoint, "read_weights", lambda folder: checkpoint.read(folder).model)
    assert [read(evaluate_again(job, 3, "last", "dev"))["metrics"]["loss"]] != validated


def test_a_run_is_refused_before_its_first_step_if_it_cannot_be_validated(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", kind="example", data={"valid": "unlabelled"})
    with pytest.raises(DataError, match=r"'unlabelled' has no labels .* as data\.valid"):
        run_here(job)
    assert not records_of(job)
