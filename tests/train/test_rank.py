"""The rank as a process: exit codes, its log, the message for torchrun, its heart."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

import pytest

from orchestra.train import rank as rank_module
from orchestra.wire import lifeline
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder, read_beats
from orchestra.wire.job import CODE, TAG, Result
from tests.exactness.launching import REPOSITORY, WORKSPACE, log_of, write_job


def rank(job: Job, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """One rank without torchrun."""
    arguments = ["--job", str(job.folder), "--kind", "train", "--attempt", "1"]
    return subprocess.run(
        [sys.executable, "-m", "orchestra.train.rank", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json"),
            CODE: str(WORKSPACE),
            TAG: f"test.{tmp_path.name}.{os.getpid()}",
            **environment,
        },
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(autouse=True)
def pages(tmp_path: Path) -> Iterator[Path]:
    """The rank's heartbeat pages; a supervisor would remove them."""
    folder = pages_folder(f"test.{tmp_path.name}.{os.getpid()}")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_rank_completes_and_its_heart_shows_it(tmp_path: Path, pages: Path) -> None:
    job = write_job(tmp_path / "run", train={"max_steps": 2})
    done = rank(job, tmp_path)
    assert done.returncode == 0, log_of(job)
    assert done.stdout + done.stderr == b"", "everything belongs into the rank's log"
    assert Result.read(job.attempt(1)) == Result("completed", 2)
    (beat,) = read_beats(pages)
    assert (beat.rank, beat.step, beat.phase) == (0, 2, Phase.DONE)


@pytest.mark.parametrize(
    ("tables", "code", "sentence"),
    [
        ({"checkpoint": {"metric": "wer"}}, ExitCode.BAD_CONFIG, "checkpoint.metric = 'wer'"),
        ({"task": {"train_utterances": 1}}, ExitCode.BAD_DATA, "has 1 utterances"),
    ],
)
def test_user_errors_are_one_sentence_with_their_exit_code(
    tmp_path: Path, tables: dict[str, dict[str, object]], code: ExitCode, sentence: str
) -> None:
    job = write_job(tmp_path / "run", **tables)
    assert rank(job, tmp_path).returncode == code
    last_line = log_of(job).splitlines()[-1]
    assert sentence in last_line
    assert "Traceback" not in log_of(job)
    told = json.loads((tmp_path / "error.json").read_text())["message"]["message"]
    assert last_line in told


def test_a_checkpoints_folder_that_cannot_be_written_is_not_worth_a_retry(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run")
    job.run.checkpoints.write_text("")
    assert rank(job, tmp_path).returncode == ExitCode.BAD_CONFIG
    assert f"can't write checkpoints to {job.run.checkpoints}" in log_of(job).splitlines()[-1]
    assert "Traceback" not in log_of(job)


def test_a_rank_without_its_parent_ends_at_once(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run")
    done = rank(job, tmp_path, **{lifeline.PARENT_PID: "1"})
    assert done.returncode == 1
    assert not job.attempt(1).path.exists()


def by_hand(job: Job) -> subprocess.CompletedProcess[bytes]:
    """As the printed plain command does, without torchrun."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), CODE: str(WORKSPACE)}
    environment.pop(TAG, None)
    arguments = ["--job", str(job.folder), "--kind", "train", "--attempt", "1"]
    return subprocess.run(
        [sys.executable, "-m", "orchestra.train.rank", *arguments],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_by_hand_is_refused_while_a_supervisor_owns_the_job(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", train={"max_steps": 2})
    with job.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = by_hand(job)
    assert done.returncode == ExitCode.CONFLICT
    assert b"is at work under a supervisor" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not job.attempt(1).records.exists()


def test_by_hand_leaves_no_heartbeat_page(tmp_path: Path) -> None:
    job = write_job(tmp_path / "run", train={"max_steps": 2})
    assert by_hand(job).returncode == 0, log_of(job)
    assert not pages_folder(f"{job.run.id}.1.plain").exists()


def test_a_rank_that_is_killed_while_it_tells_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun would die of what it can't read, and no rank's failure would be on record."""
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))

    def broken(*arguments: object) -> None:
        raise ValueError("boom")

    def killed(data: object, file: IO[str]) -> None:
        file.write('{"mess')
        raise KeyboardInterrupt

    job = Job("train", tmp_path)
    run = partial(rank_module._run, job, job.attempt(1), cast(Heartbeat, None))
    monkeypatch.setattr("orchestra.train.session.open_session", broken)
    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not path.exists()
    with pytest.raises(ValueError, match="boom"):
        run()
    assert json.loads(path.read_text())["message"]["message"] == "ValueError: boom"
