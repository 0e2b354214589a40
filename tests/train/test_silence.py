"""Silent utterances are used and told: which they are, once per epoch, from all ranks."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.train import trainer
from orchestra.train.session import Session
from orchestra.train.silence import Silence, tell_silence
from orchestra.wire.errors import DataError
from orchestra.wire.folders import Job
from orchestra.wire.job import StopFlag
from tests.exactness.launching import write_job
from tests.train.running import open_here, records_of

SILENT = {"train-3", "train-50", "dev-7", "test-2"}


def quiet_session(job: Job, attempt: int = 1) -> Session:
    session = open_here(job, attempt)
    read = session.task.read

    def read_quietly(utterance: Any) -> Any:
        return read(utterance) * (0.0 if utterance.id in SILENT else 1.0)

    session.task.read = read_quietly  # type: ignore[method-assign]
    return session


def told(job: Job, attempt: int = 1) -> list[tuple[str, list[str]]]:
    """Where, and which."""
    notices = [r.values for r in records_of(job, attempt) if r.kind == "notice"]
    return [(v["text"].split(":")[0], v["silent"]) for v in notices if "silent" in v]


def test_silent_utterances_are_told_once_per_epoch_and_split(tmp_path: Path) -> None:
    # About 4 steps an epoch: two whole epochs, and a part of a third.
    job = write_job(tmp_path / "run", batch={"micro_batches": 3}, train={"eval_every": 2})
    trainer.train(quiet_session(job))
    epochs = [ids for where, ids in told(job) if where.startswith("epoch")]
    both = ["train-3", "train-50"]
    whole = int([r for r in records_of(job) if r.kind == "train"][-1].values["epoch"])
    assert whole >= 2
    assert epochs[:whole] == [both] * whole
    assert len(epochs) <= whole + 1
    assert [t for t in told(job) if "dev" in t[0]] == [("split 'dev'", ["dev-7"])]
    assert [t for t in told(job) if "test" in t[0]] == [("split 'test'", ["test-2"])]


def test_a_stop_in_the_middle_of_an_epoch_keeps_nothing_back(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", batch={"micro_batches": 3}, data={"test": []})
    heard: list[str] = []
    for attempt in range(1, 5):
        StopFlag(0.0, 30.0).write(job)
        trainer.train(quiet_session(job, attempt))
        heard += [name for where, ids in told(job, attempt) if "epoch" in where for name in ids]
    assert {"train-3", "train-50"} <= set(heard)


def test_a_run_that_refuses_silence_ends_at_it(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", batch={"micro_batches": 3}, data={"silent": "refuse"})
    with pytest.raises(DataError, match=r"utterance train-(3|50): nothing to hear"):
        trainer.train(quiet_session(job))


def test_what_other_ranks_met_is_told_in_the_epoch_in_which_they_met_it(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run"))
    first = Silence(session)
    second = Silence(replace(session, ranks=replace(session.ranks, rank=1)))
    first.met(0, ["a"])
    second.met(0, ["c", "b"])
    second.met(1, ["d"])  # it is ahead already
    second.tell(5, before=1)
    first.tell(5, before=1)
    first.tell(5, before=1)
    first.met(1, ["a"])
    first.tell(9, before=2)
    first.tell(12, before=3)
    session.recorder.close()
    assert told(session.job) == [("epoch 1", ["a", "b", "c"]), ("epoch 2", ["a", "d"])]


def test_a_full_disk_costs_the_notice_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silence = Silence(open_here(write_job(tmp_path / "run")))

    def full(self: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(Path, "mkdir", full)
    silence.met(0, ["a", "b"])
    silence.tell(3, before=1)
    assert "epoch 1: silent, the disk is full: a, b" in caplog.text


def test_the_sentence_names_ten_and_the_record_has_all(tmp_path: Path) -> None:
    session = open_here(write_job(tmp_path / "run"))
    ids = [f"u{n:02}" for n in range(12)]
    tell_silence(session.recorder, 3, "epoch 1", [])
    tell_silence(session.recorder, 3, "epoch 1", ids)
    session.recorder.close()
    (record,) = records_of(session.job)
    assert record.values["silent"] == ids
    text = record.values["text"]
    assert text.startswith("epoch 1: 12 utterances are silent")
    assert "u09 and 2 more" in text and "u10" not in text
