"""The documents of a job while their disk is full."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.state import JobRecord
from orchestra.wire import job as documents
from orchestra.wire.errors import DiskFullError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import AttemptState, RunState


def test_a_full_disk_delays_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = RunsFolder(tmp_path)
    job = runs.run("r1").job
    folder = job.attempt(1)
    folder.path.mkdir(parents=True)
    JobState(RunState.QUEUED, "", 0, time.time()).write(job)
    attempt = Attempt(1, "r1.1.t", 1, (), 0.0)
    with open_registry(runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 12, config_sha256="0"))
        record = JobRecord(job, JobKey("r1"), registry, Mirror(), supervisor=None)
        record.begin_attempt(folder, attempt)
        with monkeypatch.context() as full:

            def refuse(path: Path, value: object) -> None:
                raise DiskFullError(f"cannot write {path}")

            full.setattr(documents, "write_json", refuse)
            record.move(RunState.RUNNING)
            record.end_attempt(folder, replace(attempt, state=AttemptState.COMPLETED))
            record.move(RunState.COMPLETED, "done")
            assert not record.flush()
            assert registry.get_run("r1").state == RunState.COMPLETED
            with pytest.raises(DiskFullError):  # no process starts whose tag is not on disk
                record.begin_attempt(job.attempt(2), attempt)
        assert JobState.read(job).state == RunState.QUEUED
        assert record.flush()
    assert (JobState.read(job).state, JobState.read(job).reason) == (RunState.COMPLETED, "done")
    assert Attempt.read(folder).state == AttemptState.COMPLETED
