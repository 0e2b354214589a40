"""A capsule taken again: what happened is named, down to the utterance; what is healthy is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from orchestra.tasks import Batch, LossTerms
from orchestra.train.anomaly import examine
from orchestra.train.replay import main
from orchestra.wire.capsules import capsules_in
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from tests.train.faults import FAULTY, GUILTY, faulty_job, run_two_ranks
from tests.train.running import run_here
from tests.train.toy import Toy, batch, toy_config


@pytest.fixture(autouse=True)
def faulty_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CODE, str(FAULTY))


def broken(folder: Path, fault: str, **tables: Any) -> Job:
    """A run that has left a capsule."""
    job = faulty_job(folder, fault, **tables)
    if fault == "error":
        with pytest.raises(ValueError, match="can't be aligned"):
            run_here(job)
    else:
        run_here(job)
    assert capsules_in(job.run.capsules)
    return job


def arguments(job: Job) -> list[str]:
    return ["--job", str(job.folder), *(str(c.folder) for c in capsules_in(job.run.capsules))]


def replayed(job: Job, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(arguments(job))
    return code, json.loads(capsys.readouterr().out)


def findings(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in document["micro_batches"] if item["finding"]]


def test_nan_in_the_forward_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(broken(tmp_path / "run", "nan"), capsys)
    assert code == ExitCode.OK
    assert document["reproduced"]
    (item,) = findings(document)
    assert GUILTY in item["ids"]
    assert item["finding"]["tensor"] == "output of head.gate (NaN)"
    assert "return features / (1.0 - guilty" in item["finding"]["traceback"].splitlines()[-1]
    assert document["alone"] == [GUILTY]
    assert document["differences"] == []


def test_nan_in_the_backward_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(broken(tmp_path / "run", "gradient"), capsys)
    assert code == ExitCode.OK
    (item,) = findings(document)
    assert item["finding"]["tensor"] == "gradient in SqrtBackward0 (NaN)"
    assert ".abs().sqrt()" in item["finding"]["traceback"].splitlines()[-1]
    assert document["alone"] == [GUILTY]


def test_a_label_that_is_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(broken(tmp_path / "run", "target"), capsys)
    assert code == ExitCode.OK
    assert "counts of micro-batch" in document["recorded"][0]["what"]
    (item,) = findings(document)
    assert item["finding"]["tensor"] == "input of the model (NaN)"
    assert document["alone"] == [GUILTY]


def test_a_batch_that_could_not_be_read_is_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = faulty_job(tmp_path / "run", "read")
    with pytest.raises(KeyError):
        run_here(job)
    code, document = replayed(job, capsys)
    assert code == ExitCode.FAILED
    assert document["recorded"][0]["what"] == f"KeyError: '{GUILTY}'"
    assert "could not be read" in " ".join(document["differences"])


def test_exception(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(broken(tmp_path / "run", "error"), capsys)
    assert code == ExitCode.OK
    (item,) = findings(document)
    # Down to the numbers in its message: the replay draws what the step drew, on its weights.
    assert item["finding"]["error"] == document["recorded"][0]["what"]
    assert "raise ValueError" in item["finding"]["traceback"]
    assert document["alone"] == [GUILTY]


def test_healthy_batches_replay_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same capsule under a config in which nothing is wrong."""
    job = broken(tmp_path / "run", "nan")
    job.config.write_text(job.config.read_text().replace('fault = "nan"', 'fault = "none"'))
    code, document = replayed(job, capsys)
    assert code == ExitCode.FAILED
    assert not document["reproduced"]
    assert findings(document) == []
    assert document["alone"] == []
    assert ["config has changed" in text for text in document["differences"]] == [True]


def test_another_trouble_than_the_recorded_one_is_not_reproduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = broken(tmp_path / "run", "error")
    job.config.write_text(job.config.read_text().replace('fault = "error"', 'fault = "nan"'))
    code, document = replayed(job, capsys)
    assert code == ExitCode.FAILED
    assert not document["reproduced"]
    assert [item["finding"]["what"] for item in findings(document)] == ["not finite"]


def test_a_bad_gradient_is_everybodys_and_replayed_with_all_ranks_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = faulty_job(tmp_path / "run", "gradient")
    assert run_two_ranks(job) == ExitCode.OK
    kept = capsules_in(job.run.capsules)
    assert [capsule.rank for capsule in kept] == [0, 1]
    # The weights are the same in both, so that they lie there once.
    assert [(each.folder / "model.safetensors").exists() for each in kept] == [True, False]
    code, document = replayed(job, capsys)
    assert code == ExitCode.OK
    assert [item["rank"] for item in document["micro_batches"]] == [0, 1]
    assert [GUILTY in item["ids"] for item in findings(document)] == [True]
    assert document["alone"] == [GUILTY]


@pytest.mark.parametrize("name", ["batches.safetensors", "model.safetensors", "capsule.json"])
@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_torn_capsule_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    job = broken(tmp_path / "run", "nan")
    (capsule,) = capsules_in(job.run.capsules)
    file = capsule.folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    capsys.readouterr()
    assert main(arguments(job)) == ExitCode.FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert name in printed.err
    assert "Traceback" not in printed.err


def test_what_is_no_capsule_is_not_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = broken(tmp_path / "run", "nan")
    assert main(["--job", str(job.folder), str(tmp_path)]) == ExitCode.NOT_FOUND
    assert f"{tmp_path} is no capsule of run run" in capsys.readouterr().err


class Overflowing(Toy):
    """A NaN is born inside of a function of torch that is written in Python."""

    def forward(self, batch: Batch) -> LossTerms:
        loss = F.softmax(self.inner(batch.wavs) * float("inf"), dim=1).sum()
        return LossTerms(loss, torch.tensor(1.0))


def test_the_last_frame_shown_is_none_of_torchs() -> None:
    finding = examine(toy_config(), Overflowing(), 0, 0, 0, batch(0))
    assert finding is not None
    *_, where, line = finding.traceback.splitlines()
    assert "test_replay.py" in where and "F.softmax" in line
