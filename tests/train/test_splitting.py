"""After an out-of-memory failure: the same plan, its micro-batches cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra.data import SAMPLE_RATE
from orchestra.tasks import Batch, LossTerms
from orchestra.train.capsule_files import read_batches
from orchestra.train.replay import replay
from orchestra.train.step import Stepper, Taken
from orchestra.train.trainer import train
from orchestra.wire.capsules import capsules_in, read_document
from orchestra.wire.errors import OutOfMemoryError
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE, Attempt, Result, StopFlag
from tests.exactness.launching import write_job
from tests.train.faults import FAULTY, GUILTY, faulty_job
from tests.train.running import open_here, records_of, run_here

Consumed = list[list[tuple[int, list[str]]]]


def split_attempt(job: Job, number: int, split: int) -> None:
    """What the supervisor writes down before it starts the ranks."""
    folder = job.attempt(number)
    folder.path.mkdir(parents=True)
    Attempt(number, "tag", 1, (), 0.0, split=split).write(folder)


@pytest.fixture
def consumed(monkeypatch: pytest.MonkeyPatch) -> Consumed:
    """(micro-batch, ids) of each step that is taken."""
    steps: Consumed = []
    take = Stepper.take

    def watched(stepper: Stepper, *arguments: Any, **asked: Any) -> Taken:
        taken = take(stepper, *arguments, **asked)
        steps.append([(number, batch.ids) for number, batch in stepper.consumed])
        return taken

    monkeypatch.setattr(Stepper, "take", watched)
    return steps


def whole(step: list[tuple[int, list[str]]]) -> dict[int, list[str]]:
    """The parts put together."""
    together: dict[int, list[str]] = {}
    for number, ids in step:
        together[number] = together.get(number, []) + ids
    return together


def test_the_plan_stays_and_its_micro_batches_are_cut(tmp_path: Path, consumed: Consumed) -> None:
    plain = write_job(tmp_path / "plain")
    run_here(plain)
    steps = consumed[:]
    consumed.clear()
    cut = write_job(tmp_path / "cut")
    split_attempt(cut, 1, split=2)
    records = run_here(cut)
    assert Result.read(cut.attempt(1)) == Result("completed", 12)
    assert [whole(step) for step in consumed] == [whole(step) for step in steps]
    assert sum(map(len, consumed)) > 1.8 * sum(map(len, steps))
    start = next(record for record in records if record.kind == "start")
    assert start.values["split"] == 2
    assert [record.values["text"] for record in records if record.kind == "notice"] == [
        "micro-batches are cut in 2 after an out-of-memory failure: this run is not exact"
    ]
    # The control: nothing of it where nothing is cut.
    assert all(record.kind != "notice" for record in records_of(plain))
    assert records_of(plain)[0].values["split"] == 1


def test_a_run_goes_on_with_smaller_micro_batches(tmp_path: Path, consumed: Consumed) -> None:
    job = write_job(tmp_path / "run")
    StopFlag(0.0, 30.0).write(job)
    run_here(job)
    job.stop.unlink()
    split_attempt(job, 2, split=3)
    run_here(job, 2)
    assert Result.read(job.attempt(2)) == Result("completed", 12)
    assert len(consumed) == 12
    assert [number for number, _ in consumed[0]] == list(range(6))
    assert [number for number, _ in consumed[1]].count(0) == 3


def test_what_did_not_fit_whole_fits_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path / "run")

    def attempt(number: int) -> None:
        session = open_here(job, number)
        loss = session.task.loss

        def hungry(head: Any, features: Any, lengths: Any, batch: Batch) -> LossTerms:
            if batch.wavs.numel() > 0.7 * 1.5 * SAMPLE_RATE:  # a micro-batch is 1.5 s
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return loss(head, features, lengths, batch)

        monkeypatch.setattr(session.task, "loss", hungry)
        train(session)

    with pytest.raises(OutOfMemoryError, match="out of memory in a forward and backward pass"):
        attempt(1)
    split_attempt(job, 2, split=2)
    attempt(2)
    assert Result.read(job.attempt(2)) == Result("completed", 12)


def test_a_capsule_of_a_cut_step_is_replayed_in_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CODE, str(FAULTY))
    job = faulty_job(tmp_path / "run", "nan")
    split_attempt(job, 1, split=2)
    run_here(job)
    (capsule,) = capsules_in(job.run.capsules)
    document = read_document(capsule)
    numbers = [number for number, _ in read_batches(capsule, document, torch.device("cpu"))]
    assert numbers == [0, 0, 1, 1]
    answer = replay(job, [capsule], torch.device("cpu"))
    assert answer["reproduced"]
    assert answer["alone"] == [GUILTY]
    guilty = [micro for micro in answer["micro_batches"] if micro["finding"]]
    assert [GUILTY in micro["ids"] for micro in guilty] == [True]
    assert answer["differences"] == []
