"""What a run leaves: records, checkpoints, evaluations, results; stop flag, full disk, NaN."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train import checkpoint, learner, trainer
from orchestra.train.distributed import Ranks
from orchestra.train.saving import Saver, best_first
from orchestra.train.training_data import load_training_data
from orchestra.wire import checkpoints, weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import (
    DataError,
    NotFiniteError,
    NotFoundError,
    OrchestraError,
    UsageError,
)
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import LONG_WRITE_S, Heartbeat, Phase, read_beats
from orchestra.wire.job import EvaluationSpec, Result, StopFlag
from orchestra.wire.manifest import write_manifest
from tests.exactness.launching import final_state, write_job
from tests.train.running import open_here, records_of, run_here

SMALL = {"batch": {"micro_batches": 3}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A completed run."""
    with pytest.MonkeyPatch.context() as patch:
        from orchestra.wire.job import CODE
        from tests.exactness.launching import WORKSPACE

        patch.setenv(CODE, str(WORKSPACE))
        job = write_job(tmp_path_factory.mktemp("finished") / "run", **SMALL)
        run_here(job)
    return job


@pytest.fixture
def copy(finished: Job, tmp_path: Path) -> Job:
    """A copy of the completed run, to be tampered with."""
    return Job("train", Path(shutil.copytree(finished.folder, tmp_path / "run")))


def test_records_tell_the_run(finished: Job) -> None:
    records = records_of(finished)
    assert records[0].kind == "start"
    assert records[0].values["max_steps"] == 12
    assert [r.step for r in records if r.kind == "train"] == [1, 4, 8, 12]
    assert [r.step for r in records if r.kind == "validation"] == [5, 10, 12]
    losses = [r.values["loss"] for r in records if r.kind == "train"]
    assert losses[-1] < losses[0]
    assert [r.values["eta_s"] for r in records if r.kind == "train"][-1] == 0
    evaluation = next(r for r in records if r.kind == "evaluation")
    assert evaluation.values["number"] == 1
    assert evaluation.values["split"] == "test"
    assert Result.read(finished.attempt(1)) == Result("completed", 12)
    assert list(finished.attempt(1).tensorboard.iterdir())


def test_last_two_and_best_checkpoints_stay(finished: Job) -> None:
    manifests = [checkpoints.verify(p) for p in checkpoints.committed(finished.run.checkpoints)]
    scores = {r.step: r.values["loss"] for r in records_of(finished) if r.kind == "validation"}
    best = min(scores, key=lambda step: scores[step])
    assert {m.step for m in manifests} >= {12, best}
    assert len(manifests) <= 3
    assert {m.step: m.score for m in manifests if m.score} == {
        m.step: scores[m.step] for m in manifests if m.step in scores
    }
    evaluation = json.loads((finished.folder / "evaluations/0001/metrics.json").read_text())
    assert evaluation["checkpoint"]["step"] == best
    assert evaluation["utterances"] == 11
    assert evaluation["declared"][0] == "loss"
    assert evaluation["data"] == {"split": "test", "manifest_sha256": None}


def test_numbers_know_their_data_and_upstream(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    for split in ("train", "test"):
        write_manifest(manifests, split, [{"id": split, "path": "x", "duration_s": 1.0}], "a test")
    job = write_job(
        tmp_path / "run", **SMALL, data={"manifests": str(manifests)}, train={"max_steps": 1}
    )
    session = open_here(job)

    def identity(upstream: object) -> dict[str, str]:
        return {"source": "lab/model", "revision": "0123abc"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestra.upstreams.base.Upstream.identity", identity)
        trainer.train(session)
    start = records_of(job)[0].values
    hashes = {
        split: hashlib.sha256((manifests / f"{split}.jsonl").read_bytes()).hexdigest()
        for split in ("train", "test")
    }
    assert start["data"] == {"split": "train", "manifest_sha256": hashes["train"]}
    metrics = json.loads(job.run.evaluation(1).metrics.read_text())
    assert metrics["data"] == {"split": "test", "manifest_sha256": hashes["test"]}
    assert metrics["upstream"] == start["upstream"] == identity(None)


def test_stop_saves_and_resume_ends_as_if_never_stopped(finished: Job, tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", **SMALL)
    StopFlag(0.0, 30.0).write(job)
    for attempt, step in ((1, 1), (2, 2)):  # each attempt takes one step and sees the flag
        run_here(job, attempt)
        assert Result.read(job.attempt(attempt)) == Result("stopped", step)
    job.stop.unlink()
    run_here(job, 3)
    assert Result.read(job.attempt(3)) == Result("completed", 12)
    assert final_state(job) == final_state(finished)


def test_stop_during_validation_validates_again(
    finished: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path / "run", **SMALL)
    session = open_here(job)
    load = trainer.load_split

    def load_and_stop(task: Any, name: str, config: Any) -> Any:
        read = task.read

        def read_and_stop(utterance: Any) -> Any:
            if utterance.id.startswith(name):
                StopFlag(0.0, 30.0).write(job)
            return read(utterance)

        task.read = read_and_stop
        return load(task, name, config)

    monkeypatch.setattr(trainer, "load_split", load_and_stop)
    trainer.train(session)
    assert Result.read(job.attempt(1)) == Result("stopped", 5)
    assert not [r for r in records_of(job) if r.kind == "validation"]
    monkeypatch.undo()
    monkeypatch.setenv("ORCHESTRA_CODE", str(Path(__file__).parents[1] / "exactness/workspace"))
    job.stop.unlink()
    run_here(job, 2)
    assert [r.step for r in records_of(job, 2) if r.kind == "validation"] == [5, 10, 12]
    assert final_state(job) == final_state(finished)


def test_a_score_found_after_a_stop_is_saved(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", **SMALL, train={"max_steps": 5})
    session = open_here(job)
    read = session.task.read

    def read_and_stop(utterance: Any) -> Any:
        if utterance.id.startswith("dev"):
            StopFlag(0.0, 30.0).write(job)
        return read(utterance)

    session.task.read = read_and_stop  # type: ignore[method-assign]
    trainer.train(session)
    assert checkpoints.verify(job.run.checkpoint(5)).score is None
    job.stop.unlink()
    records = run_here(job, 2)
    (score,) = [r.values["loss"] for r in records if r.kind == "validation"]
    assert checkpoints.verify(job.run.checkpoint(5)).score == score


def test_the_next_best_stands_in_for_a_bad_best(copy: Job) -> None:
    shutil.rmtree(copy.run.evaluation(1).path)
    best = checkpoints.committed(copy.run.checkpoints)[-1]  # not the one to resume from
    manifest = json.loads((best / "manifest.json").read_text())
    del manifest["seal"]
    (best / "manifest.json").write_text(json.dumps({**manifest, "score": -1.0}))
    (best / "model.safetensors").write_bytes(b"")
    said = [r.values["text"] for r in run_here(copy, 2) if r.kind == "notice"]
    assert len(said) == 1
    assert f"{best.name} is bad" in said[0]
    assert json.loads(copy.run.evaluation(1).metrics.read_text())["checkpoint"]["step"] == 12
    assert Result.read(copy.attempt(2)) == Result("completed", 12)


def test_finished_evaluations_are_not_repeated(copy: Job) -> None:
    assert not [r for r in run_here(copy, 2) if r.kind == "evaluation"]
    (copy.folder / "evaluations/0001/metrics.json").unlink()
    again = [r.values["number"] for r in run_here(copy, 3) if r.kind == "evaluation"]
    assert again == [1]


def test_an_evaluation_that_a_user_asks_for_is_not_taken_over(copy: Job) -> None:
    own = copy.run.evaluation(1)
    for file in (own.metrics, own.predictions):
        file.unlink()
    EvaluationSpec("test", "last", 0.0).write(own)  # its state.json is still to come
    assert [r.values["number"] for r in run_here(copy, 2) if r.kind == "evaluation"] == [2]
    assert not own.metrics.exists()


@pytest.mark.parametrize("state", [True, False])
def test_whose_an_evaluation_of_an_older_version_is(copy: Job, state: bool) -> None:
    own = copy.run.evaluation(1)
    own.metrics.unlink()
    document = json.loads(own.spec.read_text())
    del document["origin"]
    own.spec.write_text(json.dumps(document))
    if state:
        own.job.state.write_text("{}")
    number = 2 if state else 1
    assert [r.values["number"] for r in run_here(copy, 2) if r.kind == "evaluation"] == [number]


def test_a_split_without_labels_is_predicted_and_not_scored(
    copy: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy.run.evaluation(1).path)
    session = open_here(copy, 2)
    monkeypatch.setattr(session.task, "score", lambda predictions: {})
    trainer.train(session)
    evaluation = copy.run.evaluation(1)
    assert json.loads(evaluation.metrics.read_text())["metrics"] == {}
    assert len(evaluation.predictions.read_bytes().splitlines()) == 11
    said = [r.values["text"] for r in records_of(copy, 2) if r.kind == "notice"]
    assert said == ["split 'test' has no labels: its predictions are written, without metrics"]


def test_validation_without_labels_is_an_error(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run", **SMALL))
    session.task.score = lambda predictions: {}  # type: ignore[method-assign]
    with pytest.raises(DataError, match="'dev' has no labels: validation gave no loss"):
        trainer.train(session)


@pytest.mark.parametrize("reference", ["best", "last", "12", "checkpoints/step-00000012"])
def test_evaluation_job(copy: Job, reference: str) -> None:
    target = copy.run.evaluation(2)
    target.path.mkdir()
    shutil.copy(copy.config, target.job.config)
    EvaluationSpec("other", reference, 0.0).write(target)
    run_here(target.job)
    metrics = json.loads(target.metrics.read_text())
    assert metrics["split"] == "other"
    assert len(target.predictions.read_text().splitlines()) == metrics["utterances"] == 11
    step = metrics["checkpoint"]["step"]
    manifest = checkpoints.read_manifest(copy.run.checkpoint(step))
    assert metrics["checkpoint"]["sha256"] == manifest.sha256
    assert reference == "best" or step == 12


def test_evaluation_of_no_checkpoint_names_those_there_are(copy: Job) -> None:
    target = copy.run.evaluation(2)
    target.path.mkdir()
    shutil.copy(copy.config, target.job.config)
    EvaluationSpec("other", "7", 0.0).write(target)
    with pytest.raises(NotFoundError, match=r"'7'.*step-00000012"):
        run_here(target.job)


@pytest.mark.parametrize("reference", ["best", "last"])
def test_evaluation_refuses_a_bad_checkpoint_and_leaves_it(copy: Job, reference: str) -> None:
    found = best_first(copy.run.checkpoints) if reference == "best" else [copy.run.checkpoint(12)]
    (found[0] / "model.safetensors").write_bytes(b"")
    target = copy.run.evaluation(2)
    target.path.mkdir()
    shutil.copy(copy.config, target.job.config)
    EvaluationSpec("other", reference, 0.0).write(target)
    with pytest.raises(BadCheckpointError, match=rf"^choose another.*{found[0].name}/model") as bad:
        run_here(target.job)
    assert bad.value.exit_code is ExitCode.BAD_DATA  # which the supervisor does not retry
    assert found[0].is_dir()


def test_evaluation_bears_that_training_replaces_what_it_reads(
    copy: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, left = checkpoints.check_files, iter([1])

    def replaced(folder: Path, files: dict[str, tuple[int, str]], tick: Any) -> None:
        if next(left, None):
            raise BadCheckpointError("state.json is the new one's, manifest.json the old one's")
        check(folder, files, tick)

    monkeypatch.setattr(weights, "check_files", replaced)
    target = copy.run.evaluation(2)
    target.path.mkdir()
    shutil.copy(copy.config, target.job.config)
    EvaluationSpec("other", "last", 0.0).write(target)
    run_here(target.job)
    assert next(left, None) is None
    assert target.metrics.exists()


def test_bad_newest_checkpoint_is_set_aside_and_said(copy: Job) -> None:
    (copy.run.checkpoint(12) / "model.safetensors").write_bytes(b"")
    records = run_here(copy, 2)
    assert records[0].kind == "notice"
    assert "step-00000012 is bad" in records[0].values["text"]
    step = records[2].values["step"]
    assert 0 < step < 12
    assert records[1].values["text"] == f"continues from step {step}: newer checkpoints were bad"
    assert list((copy.run.checkpoints / ".quarantine").iterdir())
    assert Result.read(copy.attempt(2)) == Result("completed", 12)


def test_no_good_checkpoint_is_no_reason_to_begin_again(copy: Job) -> None:
    for folder in checkpoints.committed(copy.run.checkpoints):
        (folder / "model.safetensors").write_bytes(b"")
    for attempt in (2, 3):  # what lies in quarantine by then counts as well
        with pytest.raises(DataError, match=r"^no checkpoint of run .* is good: see `orchestra"):
            run_here(copy, attempt)
    shutil.rmtree(copy.run.checkpoints)  # the user's word that it may
    assert run_here(copy, 4)[0].values["step"] == 0


def test_full_disk_costs_checkpoints_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path / "run", **SMALL)
    write, calls = checkpoint._write_durably, iter(range(1000))

    def full_once(path: Path, pieces: Any, tick: Any) -> tuple[int, str]:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, pieces, tick)

    monkeypatch.setattr(checkpoint, "_write_durably", full_once)
    records = run_here(job)
    said = [r.values["text"] for r in records if r.kind == "notice"]
    assert len(said) == 1
    assert "no checkpoint at step 4, the disk is full" in said[0]
    assert Result.read(job.attempt(1)) == Result("completed", 12)
    assert not list(job.run.checkpoints.glob(".writing-*"))


def test_last_save_on_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = write_job(tmp_path / "run", **SMALL)

    def full(path: Path, pieces: Any, tick: Any) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_durably", full)
    with pytest.raises(OSError, match="No space"):
        run_here(job)
    assert Result.read(job.attempt(1)) is None


def test_a_checkpoints_folder_that_is_none_ends_the_run_before_it_starts(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", **SMALL)
    job.run.checkpoints.write_text("")
    with pytest.raises(UsageError, match=f"can't write checkpoints to {job.run.checkpoints}: "):
        run_here(job)
    assert not records_of(job)


def test_nan_skips_updates_then_fails(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", **SMALL, train={"max_steps": 40})
    session = open_here(job)
    loss = session.task.loss

    def poisoned(*arguments: Any) -> Any:
        terms = loss(*arguments)
        return type(terms)(terms.sum * float("nan"), terms.weight)

    session.task.loss = poisoned  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError, match="not finite in 20 steps") as caught:
        trainer.train(session)
    assert caught.value.exit_code is ExitCode.NOT_FINITE  # the supervisor won't try again
    weights = checkpoint.read(checkpoints.committed(job.run.checkpoints)[0]).model
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    # BatchNorm's statistics move in a forward pass; the parameters must not.
    first = checkpoint.read(checkpoints.committed(job.run.checkpoints)[-1]).model
    assert torch.equal(weights["head.inner.weight"], first["head.inner.weight"])


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        ({"batch": {"max_micro_seconds": 0.3}}, DataError, r"max_micro.*train-\d+ \(0.\d s\)"),
        ({"task": {"train_utterances": 2}}, DataError, "has 2 utterances.*3 micro-batches"),
        ({"checkpoint": {"metric": "wer"}}, UsageError, "'wer'.*its metrics: loss"),
        ({"data": {"test": ["test", "void"]}}, DataError, "'void' has no utterances"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_step(
    tmp_path: Path, tables: dict[str, dict[str, Any]], error: type[Exception], message: str
) -> None:
    batch = {"micro_batches": 3, **tables.get("batch", {})}
    job = write_job(tmp_path / "run", **{**tables, "batch": batch})
    with pytest.raises(error, match=message):
        run_here(job)
    assert not records_of(job)


def test_a_number_of_ranks_that_does_not_fit_names_those_that_do(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run"))
    four = replace(session, ranks=Ranks(0, 4, torch.device("cpu")))
    with pytest.raises(UsageError, match=r"4 ranks can't share 6 micro-batches.*1, 2, 3, 6 can"):
        load_training_data(four)


@pytest.mark.parametrize(
    ("table", "key", "value", "message"),
    [
        ("batch", "micro_batches", "6", "micro_batches can't change"),
        ("task", "train_utterances", "80", r"restore the manifest of data\.train or"),
        ("train", "max_steps", "11", "max_steps is 11, but .* of step 12: resume with more steps"),
        ("upstream", "mels", "40", r"head.inner.weight is float32\[48, 20\] instead of"),
    ],
)
def test_a_changed_run_is_not_resumed(
    copy: Job, table: str, key: str, value: str, message: str
) -> None:
    lines = copy.config.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith(f"{key} = "))
    lines[place] = f"{key} = {value}"
    copy.config.write_text("\n".join(lines))
    with pytest.raises(OrchestraError, match=message):
        run_here(copy, 2)


def test_other_labels_to_validate_on_are_no_resumed_run(copy: Job) -> None:
    session = open_here(copy, 2)
    utterances = session.task.utterances

    def altered(split: str) -> Any:
        return [
            replace(one, fields={"label": 0}) if split == "dev" else one
            for one in utterances(split)
        ]

    session.task.utterances = altered  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"restore the manifest of data\.valid or"):
        trainer.train(session)


def test_a_rank_says_that_the_last_save_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path / "run", **SMALL)
    save, promised = Saver.save, []

    def slow(saver: Saver, *arguments: Any, must: bool) -> None:
        promised.extend(beat.promise_s for beat in read_beats(job.folder / "pages") if must)
        save(saver, *arguments, must=must)

    monkeypatch.setattr(Saver, "save", slow)
    run_here(job)
    assert promised == [LONG_WRITE_S]


@pytest.mark.parametrize(("slowest_s", "promise_s"), [(20.0, 100.0), (5.0, 0.0)])
@pytest.mark.parametrize("split", [1, 2])
def test_passes_that_were_slow_in_the_warm_up_may_be_slow(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slowest_s: float,
    promise_s: float,
    split: int,
) -> None:
    """Five times as slow, where the deadline of a step is shorter than that."""
    warm_up, promised = learner.warm_up, dict[Phase, set[float]]()

    def slow(*arguments: Any) -> Any:
        return replace(warm_up(*arguments), slowest_s=slowest_s)

    def beat(pulse: Heartbeat, step: int, phase: Phase, promise_s: float = 0.0) -> None:
        promised.setdefault(phase, set()).add(promise_s)

    monkeypatch.setattr(learner, "warm_up", slow)
    monkeypatch.setattr(Heartbeat, "beat", beat)
    session = replace(open_here(write_job(tmp_path / "run", **SMALL)), split=split)
    trainer.train(session)
    for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER):
        assert promised[phase] == {promise_s}
    assert promised[Phase.DATA] == {0.0}
