from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra.wire.errors import OrchestraError
from orchestra.wire.failures import RankFailure, read_failures, write_failures
from orchestra.wire.files import write_atomic
from orchestra.wire.folders import Job
from orchestra.wire.identity import self_identity
from orchestra.wire.job import Attempt, JobState, Result, StopFlag
from orchestra.wire.states import RunState


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job("train", tmp_path)
    job.attempt(1).path.mkdir(parents=True)
    return job


def add(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_keys_of_a_newer_version_are_left_out(job: Job) -> None:
    attempt = Attempt(1, "tag", 2, (), 0.0, agent=self_identity(), command=("a",))
    attempt.write(job.attempt(1))
    add(job.attempt(1).attempt, later=1)
    assert Attempt.read(job.attempt(1)) == attempt
    state = JobState(RunState.RUNNING, "", 1, 0.0, self_identity(), failures=2)
    state.write(job)
    add(job.state, later=1)
    assert JobState.read(job) == state
    failure = RankFailure(0, 1, 2, 0, 3.0, "m")
    path = job.attempt(1).failures
    write_failures(path, [failure])
    add(path, failures=[{**json.loads(path.read_text())["failures"][0], "later": 1}])
    assert read_failures(path) == [failure]


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"state": "unheard of", "failures": 1}'])
def test_broken_documents_are_named(job: Job, text: str) -> None:
    attempt = job.attempt(1)
    for path, read in (
        (job.state, lambda: JobState.read(job)),
        (job.stop, lambda: StopFlag.read(job)),
        (attempt.attempt, lambda: Attempt.read(attempt)),
        (attempt.result, lambda: Result.read(attempt)),
        (attempt.failures, lambda: read_failures(attempt.failures)),
    ):
        path.write_text(text)
        with pytest.raises(OrchestraError, match=f"{path} is broken or of another version"):
            read()


def test_orphaned_only_here_and_dead(job: Job) -> None:
    def state(**changes: Any) -> JobState:
        identity = {**self_identity().to_json(), **changes}
        return JobState(RunState.RUNNING, "", 1, 0.0, self_identity().from_json(identity))

    assert not state().is_orphaned()
    assert state(start_ticks=1).is_orphaned()
    assert state(boot_id="earlier").is_orphaned()
    assert not state(machine_id="other", start_ticks=1).is_orphaned()
    assert not JobState(RunState.QUEUED, "", 0, 0.0).is_orphaned()


def test_unwritable_is_an_orchestra_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OrchestraError, match="cannot write"):
        write_atomic(tmp_path / "missing" / "file", b"")

    def no_sync(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("orchestra.wire.files.sync_folder", no_sync)
    with pytest.raises(OrchestraError, match=r"cannot write .*Input/output error"):
        write_atomic(tmp_path / "file", b"")
