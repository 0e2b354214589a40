"""Lines of the log, TensorBoard points, and a disk that is full for a while."""

from __future__ import annotations

import errno
import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

from orchestra.train.recorder import Recorder
from orchestra.wire.folders import AttemptFolder
from orchestra.wire.records import Record, RecordWriter, read_records

TRAIN = {
    "loss": math.nan,
    "lr": 1e-4,
    "audio_s_per_s": 54.22,
    "data_share": 0.031,
    "memory_bytes": 2**21,
    "eta_s": 4000.0,
    "eta_evaluation_s": 61.0,
    "skipped": 0,
}
PARTS = [
    {"part": "upstream", "parameters": 9000, "trainable": 0, "share": 0.9},
    {"part": "head.out", "parameters": 1000, "trainable": 1000, "share": 0.1},
]


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    folder = AttemptFolder(tmp_path / "0001")
    folder.path.mkdir()
    return folder


def records(attempt: AttemptFolder) -> list[Record]:
    with attempt.records.open("rb") as file:
        return list(read_records(file))


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def test_json_lines_are_json_in_every_line(
    attempt: AttemptFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(attempt, enabled=True, log_format="json")
    recorder.write("start", 0, {"step": 0, "parts": PARTS, "max_steps": None})
    recorder.write("train", 20, TRAIN)
    recorder.write("validation", 20, {"split": "dev", "wer": math.inf})
    recorder.notice(20, "100 % of\nit")
    recorder.close()
    lines = capsys.readouterr().err.splitlines()
    told = [json.loads(line, parse_constant=no_constant) for line in lines]
    assert [(line["kind"], line["step"]) for line in told] == [
        ("start", 0),
        ("train", 20),
        ("validation", 20),
        ("notice", 20),
    ]
    assert told[0]["values"]["parts"] == PARTS
    assert told[1]["values"] == {**TRAIN, "loss": None}
    assert told[2]["values"] == {"split": "dev", "wer": None}
    assert told[3]["values"] == {"text": "100 % of\nit"}
    assert math.isnan(records(attempt)[1].values["loss"])  # on record it is what it was


def test_text_lines_are_for_people(
    attempt: AttemptFolder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(attempt, enabled=True)
    with caplog.at_level(logging.INFO, logger="orchestra"):
        recorder.write("start", 0, {"step": 0, "world_size": 2, "parts": PARTS})
        recorder.write("train", 20, TRAIN)
        recorder.notice(20, "100 % of it")
        recorder.notice(20, "step 20: no update")
    recorder.close()
    start, train, notice, with_step = caplog.messages
    assert start.splitlines() == [
        "start at step 0: world_size 2",
        "  part      parameters  trainable  share",
        "  upstream       9,000          0  90.0%",
        "  head.out       1,000      1,000  10.0%",
        "  all           10,000      1,000",
    ]
    assert train == (
        "step 20: loss nan, lr 0.0001, 54.2 x real time, 3.1% waiting for data, 2 MiB, "
        "ETA 1:06:40 (of it validation 0:01:01)"
    )
    assert notice == "step 20: 100 % of it"
    assert with_step == "step 20: no update"


def test_the_other_ranks_say_nothing(
    attempt: AttemptFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(attempt, enabled=False, log_format="json")
    recorder.write("train", 20, TRAIN)
    recorder.close()
    assert capsys.readouterr().err == ""
    assert list(attempt.path.iterdir()) == []


def test_a_full_disk_loses_records_and_says_so_later(
    attempt: AttemptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(attempt, enabled=True)
    whole = RecordWriter.write

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(RecordWriter, "write", full)
    recorder.write("train", 1, {})
    recorder.write("train", 2, {})
    monkeypatch.setattr(RecordWriter, "write", whole)
    recorder.write("train", 3, {})
    recorder.close()
    assert [(record.kind, record.step) for record in records(attempt)] == [
        ("notice", 3),
        ("train", 3),
    ]
    assert "2 records are lost" in records(attempt)[0].values["text"]


def test_another_error_of_the_disk_is_raised(
    attempt: AttemptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(attempt, enabled=True)

    def broken(*arguments: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(RecordWriter, "write", broken)
    with pytest.raises(OSError, match="broken"):
        recorder.write("train", 1, {})


def test_training_does_without_tensorboards_files(attempt: AttemptFolder) -> None:
    recorder = Recorder(attempt, enabled=True)
    attempt.tensorboard.write_text("in the way of the folder")
    for step in (1, 2):
        recorder.write("train", step, {"loss": 1.0})
    attempt.tensorboard.unlink()
    recorder.write("train", 3, {"loss": 1.0})
    recorder.close()
    told = [(record.kind, record.step) for record in records(attempt)]
    assert told == [("train", 1), ("notice", 1), ("train", 2), ("train", 3)]  # said once
    assert list(attempt.tensorboard.iterdir())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tensorboard_writer_that_fails_is_replaced(attempt: AttemptFolder) -> None:
    recorder = Recorder(attempt, enabled=True)
    recorder.write("train", 1, {"loss": 1.0})
    shutil.rmtree(attempt.tensorboard)  # its thread finds no folder at the next write
    step = 1
    while not any(record.kind == "notice" for record in records(attempt)):
        step += 1
        assert step < 5000
        recorder.write("train", step, {"loss": 1.0})
    recorder.write("train", step + 1, {"loss": 1.0})
    recorder.close()
    assert list(attempt.tensorboard.iterdir())
