"""`--no-queue` takes back what waits, and never what has started."""

from __future__ import annotations

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.schedule.queue import places, position_of
from orchestra.schedule.withdraw import end_again
from orchestra.supervise.lock import FileLock
from orchestra.wire.errors import ConflictError
from orchestra.wire.job import JobState, StopFlag
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox


def test_a_cpu_job_that_was_just_started_does_not_wait(sandbox: Sandbox) -> None:
    """Its supervisor has the lock from the start; the registry says queued for a while."""
    job = sandbox.add_run(nproc=1)
    key = JobKey(job.run.id)
    assert position_of(sandbox.workspace, key) is not None
    lock = FileLock.acquire_if_free(job.lock)
    assert lock is not None
    with lock:
        assert places(sandbox.workspace) == []
        assert dispatch(sandbox.workspace) == []


def test_a_run_that_just_started_is_left_alone(sandbox: Sandbox) -> None:
    job = sandbox.add_run(hold=True, nproc=1)
    key = JobKey(job.run.id)
    sandbox.start(job)
    end_again(sandbox.workspace, key, "needs 1 GPU")
    sandbox.held(job)
    end_again(sandbox.workspace, key, "needs 1 GPU")
    assert StopFlag.read(job) is None
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    end_again(sandbox.workspace, key, "needs 1 GPU")
    assert JobState.read(job).state == RunState.COMPLETED


def test_a_run_that_waits_is_stopped_again(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    with pytest.raises(ConflictError, match="--no-queue: needs 1 GPU"):
        end_again(sandbox.workspace, JobKey(job.run.id), "needs 1 GPU")
    assert sandbox.wait_end(job).state == RunState.STOPPED
