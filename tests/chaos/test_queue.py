"""A queue of real jobs on fake GPUs: never two on one device, none idle while a job waits."""

from __future__ import annotations

import pytest

from orchestra.schedule.dispatch import dispatch
from orchestra.wire.folders import Job
from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox
from tests.fakes.nvml import FakeNvml

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

JOBS, GPUS, EACH = 18, 4, 2


def test_18_jobs_of_two_gpus_on_four(sandbox: Sandbox, nvml: FakeNvml) -> None:
    """Jobs are let go one by one; what follows each is started by what ended, by no command."""
    uuids = set(nvml.idle(GPUS))
    launch = {"device": "gpu"}
    jobs = [sandbox.add_run(hold=True, nproc=EACH, launch=launch) for _ in range(JOBS)]
    dispatch(sandbox.workspace)
    waiting, at_work = jobs, list[Job]()
    for ended in range(JOBS):
        count = min(GPUS // EACH - len(at_work), len(waiting))
        fresh, waiting = waiting[:count], waiting[count:]  # first come, first served
        for job in fresh:
            sandbox.held(job)
        at_work += fresh
        assert all(JobState.read(job).state == RunState.QUEUED for job in waiting), ended
        devices = [uuid for job in at_work for uuid in sandbox.attempts(job)[-1].devices]
        assert len(devices) == len(set(devices)) == EACH * len(at_work)
        assert set(devices) <= uuids
        first, *at_work = at_work
        sandbox.release(first)
        assert sandbox.wait_end(first).state == RunState.COMPLETED
