"""Limits, validations, early stopping, averaged and frozen weights: the loop as a user sets it."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.train import checkpoint, endings, lines, trainer
from orchestra.train.saving import Saver
from orchestra.train.validation import Validator
from orchestra.wire.checkpoints import best_first, committed, manifests
from orchestra.wire.errors import NotFiniteError
from orchestra.wire.folders import Job
from orchestra.wire.job import EvaluationSpec, Result
from orchestra.wire.records import Record
from tests.exactness.launching import final_state, write_job
from tests.train.running import open_here, records_of, run_here

# 90 utterances of 0.1 to 0.46 s: an epoch is 3 steps of 3 micro-batches.
BATCH = {"micro_batches": 3}


def small(folder: Path, *, train: dict[str, Any], **tables: Any) -> Job:
    """A run that has only the limits named in `train`."""
    job = write_job(folder, batch=BATCH, train={"eval_every": 5, **train}, **tables)
    if "max_steps" not in train:
        text = job.config.read_text()
        assert "max_steps = 12\n" in text
        job.config.write_text(text.replace("max_steps = 12\n", ""))
    return job


def steps_of(records: list[Record], kind: str) -> list[int]:
    return [record.step for record in records if record.kind == kind]


def notices(records: list[Record]) -> list[str]:
    return [record.values["text"] for record in records if record.kind == "notice"]


def test_epochs_end_the_run_where_the_epoch_ends(tmp_path: Path) -> None:
    job = small(tmp_path / "run", train={"max_epochs": 2, "eval_every_epochs": 0.5})
    records = run_here(job)
    result = Result.read(job.attempt(1))
    assert result is not None and result.outcome == "completed"
    assert result.reason == "train.max_epochs = 2 is over"
    last = [record for record in records if record.kind == "train"][-1]
    assert (last.step, last.values["epoch"]) == (result.step, 2.0)
    assert records[0].values["max_steps"] == 2 * records[0].values["steps_per_epoch"]
    state = checkpoint.read_state(job.run.checkpoint(result.step))
    assert state["progress"]["position"] == {"epoch": 2, "index": 0}
    assert len(steps_of(records, "validation")) >= 4


def test_hours_end_the_run_and_count_over_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small(
        tmp_path / "run",
        train={"max_hours": 1.0},
        schedule={"kind": "constant", "warmup_steps": 0},
    )
    asked: Iterator[float] = iter([0.0, 1000.0, 2000.0, *[3600.0] * 9])
    monkeypatch.setattr(
        trainer, "time_is_up", lambda train, _: endings.time_is_up(train, next(asked))
    )
    records = run_here(job)
    result = Result.read(job.attempt(1))
    assert result == Result("completed", 3, "train.max_hours = 1 is over")
    assert "train.max_hours = 1 is over" in notices(records)
    assert steps_of(records, "validation") == [3]  # the end of a run is validated and tested
    assert steps_of(records, "evaluation") == [3]
    monkeypatch.undo()
    monkeypatch.setenv("ORCHESTRA_CODE", str(Path(__file__).parents[1] / "exactness/workspace"))
    elapsed_s = checkpoint.read_state(job.run.checkpoint(3))["progress"]["elapsed_s"]
    assert elapsed_s > 0.0
    text = job.config.read_text()
    over = elapsed_s / 3601  # a little less: no rounding may give it one more step
    job.config.write_text(text.replace("max_hours = 1.0", f"max_hours = {over}"))
    assert steps_of(run_here(job, 2), "train") == []  # its time was over in the first attempt
    result = Result.read(job.attempt(2))
    assert result is not None and (result.outcome, result.step) == ("completed", 3)
    assert result.reason.startswith("train.max_hours = ")


def test_validation_at_the_start_names_no_best_checkpoint(tmp_path: Path) -> None:
    job = small(tmp_path / "run", train={"max_steps": 2, "eval_at_start": True})
    records = run_here(job)
    assert steps_of(records, "validation") == [0, 2]
    assert not job.run.checkpoint(0).exists()


class Falling:
    """Scores that get worse from the second validation on."""

    def __init__(self, session: Any) -> None:
        self._scores = iter(range(1, 100))
        self._score = session.task.score
        session.task.score = self

    def __call__(self, predictions: Any) -> dict[str, float]:
        return {"loss": float(next(self._scores)), "other": -1.0}


def test_patience_ends_the_run_and_outlives_a_stop(tmp_path: Path) -> None:
    stopping = {"patience": 3}
    train = {"max_steps": 40, "eval_every": 2, "stopping": stopping}
    straight = small(tmp_path / "straight", train=train)
    session = open_here(straight)
    Falling(session)
    trainer.train(session)
    records = records_of(straight)
    why = "early stopping: loss got no better in 3 validations (train.stopping.patience)"
    assert Result.read(straight.attempt(1)) == Result("completed", 8, why)
    assert why in notices(records)

    broken = small(tmp_path / "broken", train={**train, "max_steps": 6})
    session = open_here(broken)
    Falling(session)
    trainer.train(session)
    text = broken.config.read_text()
    broken.config.write_text(text.replace("max_steps = 6", "max_steps = 40"))
    session = open_here(broken, 2)
    falling = Falling(session)
    falling._scores = iter(range(4, 100))
    trainer.train(session)
    # Two of the three bad validations were in the first attempt.
    assert Result.read(broken.attempt(2)) == Result("completed", 8, why)


def test_a_task_may_decide_by_itself(tmp_path: Path) -> None:
    job = small(tmp_path / "run", train={"max_steps": 40, "eval_every": 2})
    session = open_here(job)
    asked: list[list[float]] = []

    def stops_early(validations: Any) -> bool:
        asked.append([validation["step"] for validation in validations])
        return len(validations) == 2

    session.task.stops_early = stops_early  # type: ignore[method-assign]
    trainer.train(session)
    assert asked == [[2], [2, 4]]
    why = "early stopping: the task says so"
    assert Result.read(job.attempt(1)) == Result("completed", 4, why)


def test_validation_on_a_part_and_the_whole_at_the_end(tmp_path: Path) -> None:
    job = small(
        tmp_path / "run", train={"max_steps": 6, "eval_every": 3}, data={"valid_utterances": 4}
    )
    session = open_here(job)
    seen: list[set[str]] = []
    score = session.task.score

    def counted(predictions: Any) -> Any:
        seen.append({record["id"] for record in predictions})
        return score(predictions)

    session.task.score = counted  # type: ignore[method-assign]
    trainer.train(session)
    parts, whole = seen[:2], seen[2]
    assert parts[0] == parts[1] and len(parts[0]) == 4  # the same ones each time
    assert parts[0] < whole and len(whole) == 11
    splits = [r.values["split"] for r in records_of(job) if r.kind == "evaluation"]
    assert splits == ["dev", "test"]
    on = [r.values["on"] for r in records_of(job) if r.kind == "validation"]
    assert on == ["4 of 11 utterances"] * 2


def test_averaged_weights_are_what_is_evaluated(tmp_path: Path) -> None:
    job = small(tmp_path / "run", train={"max_steps": 6}, optim={"ema_decay": 0.9})
    run_here(job)
    folder = job.run.checkpoint(6)
    own, averaged = checkpoint.read(folder).model, checkpoint.read_weights(folder)
    assert not torch.equal(own["head.inner.weight"], averaged["head.inner.weight"])
    score = json.loads((folder / "manifest.json").read_text())["score"]
    assert loss_on_dev(job, 2) == score
    plain = small(tmp_path / "plain", train={"max_steps": 6})
    run_here(plain)
    unaveraged = checkpoint.read(plain.run.checkpoint(6)).model
    assert torch.equal(own["head.inner.weight"], unaveraged["head.inner.weight"])
    assert loss_on_dev(plain, 2) != score


def loss_on_dev(job: Job, number: int) -> float:
    """Of the last checkpoint, by an evaluation that a user asks for."""
    target = job.run.evaluation(number)
    target.path.mkdir(parents=True)
    shutil.copy(job.config, target.job.config)
    EvaluationSpec("dev", "last", 0.0).write(target)
    run_here(target.job)
    loss: float = json.loads(target.metrics.read_text())["metrics"]["loss"]
    return loss


def test_frozen_parts_train_from_their_step_on_and_resume_is_exact(tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "optim": {"freeze": [{"parameters": "head.inner", "until_step": 5}], "ema_decay": 0.9},
        "schedule": {"kind": "constant"},
        "checkpoint": {"every": 1, "keep_every": 1},
    }
    straight = small(tmp_path / "straight", train={"max_steps": 9}, **tables)
    records = run_here(straight)
    inner = next(row for row in records[0].values["parts"] if row["part"] == "head.inner")
    size = inner["parameters"]
    assert (inner["trainable"], inner["later"]) == (0, size)
    assert f"  0 ({size:,} later)" in lines.text(records[0])
    told = f"trained from here on, optim.freeze: head.inner ({size:,} parameters)"
    assert [r.step for r in records if r.values.get("text") == told] == [5]
    weights = [
        checkpoint.read(straight.run.checkpoint(step)).model["head.inner.weight"]
        for step in range(1, 10)
    ]
    assert all(torch.equal(weights[0], later) for later in weights[1:5])
    assert not torch.equal(weights[4], weights[5])
    for cut in (3, 5, 7):
        broken = small(tmp_path / f"broken{cut}", train={"max_steps": cut}, **tables)
        run_here(broken)
        text = broken.config.read_text().replace(f"max_steps = {cut}", "max_steps = 9")
        broken.config.write_text(text)
        run_here(broken, 2)
        ours, theirs = (
            {name: held for name, held in final_state(job, 9).items() if name != "state.json"}
            for job in (broken, straight)
        )
        assert ours == theirs  # the state tells of one validation more, at `cut`


def test_a_nan_leaves_running_statistics_as_they_were(tmp_path: Path) -> None:
    job = small(tmp_path / "run", train={"max_epochs": 1})
    session = open_here(job)
    loss = session.task.loss

    def poisoned(head: Any, features: torch.Tensor, lengths: torch.Tensor, batch: Any) -> Any:
        bad = "train-5" in batch.ids
        return loss(head, features * (float("nan") if bad else 1.0), lengths, batch)

    session.task.loss = poisoned  # type: ignore[method-assign]
    trainer.train(session)
    (newest, *_) = committed(job.run.checkpoints)
    state = checkpoint.read(newest).model
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert [r.values["skipped"] for r in records_of(job) if r.kind == "train"][-1] == 1


@pytest.mark.parametrize(
    ("lost", "kept"),
    [
        ((), [2, 5]),  # none was saved at step 0
        ((2,), [3, 5]),  # the disk was full for the best one
        ((2, 3), [4, 5]),
    ],
)
def test_the_best_is_the_best_of_what_could_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[int, ...], kept: list[int]
) -> None:
    scores = {0: 0.1, 1: 0.5, 2: 0.2, 3: 0.4, 4: 0.45, 5: 0.6}

    def full(root: Path, step: int, *rest: Any) -> Any:
        if step in lost:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(root, step, *rest)

    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", full)
    monkeypatch.setattr(Validator, "validate", lambda self, step: {"loss": scores[step]})
    monkeypatch.setattr(trainer, "evaluate_tests", lambda *arguments: True)
    job = small(
        tmp_path / "run",
        train={"max_steps": 5, "eval_every": 1, "eval_at_start": True},
        checkpoint={"every": 100},
    )
    run_here(job)
    last_and_best = {5, *(m.step for m in best_first(manifests(job.run.checkpoints))[:1])}
    assert sorted(last_and_best) == kept


def test_a_save_that_fails_hides_no_error_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small(tmp_path / "run", train={"max_steps": 5}, checkpoint={"every": 1})
    ends = threading.Event()

    def broken(*arguments: Any) -> Any:
        assert ends.wait(60.0)
        raise OSError(errno.EIO, "Input/output error")

    def teapot(saver: Saver) -> None:
        if saver._under_way:
            ends.set()
            raise NotFiniteError("the loss is a teapot")

    monkeypatch.setattr(checkpoint, "write", broken)
    monkeypatch.setattr(Saver, "poll", teapot)
    with pytest.raises(NotFiniteError, match="teapot"):
        run_here(job)
    assert notices(records_of(job))[-1].startswith("no checkpoint at step 1: ")
