from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.provenance.environment import allowed
from orchestra.registry.rows import JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.wire.files import write_json
from orchestra.wire.job import RUN, TAG, EvaluationSpec, JobState
from orchestra.wire.lifeline import PARENT_PID
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox, wait_for
from tests.fakes.nvml import FakeNvml

DISPATCH = """
import sys
from pathlib import Path
from orchestra.schedule.dispatch import dispatch
from orchestra.wire.folders import RunsFolder
from orchestra.workspace import Workspace
root = Path(sys.argv[1])
print(len(dispatch(Workspace(root, RunsFolder(root / "runs")))))
"""


def test_nothing_to_do(sandbox: Sandbox) -> None:
    assert dispatch(sandbox.workspace) == []


def test_racing_dispatchers_start_each_job_once(sandbox: Sandbox) -> None:
    jobs = [sandbox.add_run(nproc=1) for _ in range(3)]
    command = [sys.executable, "-c", DISPATCH, str(sandbox.workspace.root)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    started = [int(racer.communicate()[0]) for racer in racers]
    assert sum(started) == 3
    for job in jobs:
        assert sandbox.wait_end(job).state == RunState.COMPLETED
        assert len(sandbox.attempts(job)) == 1
        assert sandbox.log(job).count("starting") == 1


def test_an_ending_job_starts_the_next(sandbox: Sandbox) -> None:
    first = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(first)
    second = sandbox.add_run()
    sandbox.release(first)
    assert sandbox.wait_end(second).state == RunState.COMPLETED


def test_supervisor_does_not_belong_to_the_job_of_its_shell(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`orchestra run` from inside a rank: the outer job's sweep must not hit the inner one."""
    monkeypatch.setenv(TAG, "outer.1.abc")
    monkeypatch.setenv(RUN, "outer")
    monkeypatch.setenv(PARENT_PID, "1")
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    environment = Path(f"/proc/{sandbox.supervisor(job).pid}/environ").read_bytes()
    names = {entry.partition(b"=")[0].decode() for entry in environment.split(b"\0")}
    assert not names & {TAG, RUN, PARENT_PID}
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.partition("=")[::2] for entry in entries)


def test_attempts_have_the_environment_of_the_submitter(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(hold=True, nproc=1)
    variables = {"NCCL_DEBUG": "INFO", "HF_HOME": "/theirs", "PYTHONPATH": "/theirs"}
    write_json(job.environment, {"version": 1, "variables": variables})
    monkeypatch.setenv("HF_HOME", "/mine")
    monkeypatch.setenv("TORCH_HOME", "/mine")
    monkeypatch.setenv("WANDB_MODE", "offline")
    attempt = sandbox.held(sandbox.start(job))
    supervisor = environment_of(sandbox.supervisor(job).pid)
    assert supervisor.get("PYTHONPATH") == os.environ.get("PYTHONPATH")
    for found in (supervisor, environment_of(attempt.ranks[0])):
        assert (found["NCCL_DEBUG"], found["HF_HOME"]) == ("INFO", "/theirs")
        assert "TORCH_HOME" not in found
        assert found["WANDB_MODE"] == "offline"  # not in the record of any run
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


@pytest.mark.parametrize("missed", [RunState.QUEUED, RunState.RUNNING])
def test_registry_that_missed_the_end_is_corrected(sandbox: Sandbox, missed: RunState) -> None:
    job = sandbox.add_run()
    key = JobKey(job.run.id)
    ended = replace(JobState.read(job), state=RunState.COMPLETED)
    ended.write(job)
    with sandbox.registry() as registry:
        registry.transition(key, {RunState.QUEUED}, missed)
        assert dispatch(sandbox.workspace) == []
        assert registry.get_run(key.run_id).state == RunState.COMPLETED


def test_supervisor_of_a_job_that_had_ended_corrects_the_registry(sandbox: Sandbox) -> None:
    job = sandbox.add_run()
    replace(JobState.read(job), state=RunState.STOPPED, reason="by hand").write(job)
    assert sandbox.supervise(job).wait(20) == 0
    with sandbox.registry() as registry:
        row = registry.get_run(job.run.id)
    assert (row.state, row.reason) == (RunState.STOPPED, "by hand")


def test_queued_folder_of_a_job_that_the_registry_calls_starting_is_found(
    sandbox: Sandbox,
) -> None:
    """A supervisor gave it back to the queue and died before it told the registry."""
    job = sandbox.add_run()
    with sandbox.registry() as registry:
        registry.transition(JobKey(job.run.id), {RunState.QUEUED}, RunState.STARTING)
    assert dispatch(sandbox.workspace) == [JobKey(job.run.id)]
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_broken_jobs_stop_no_other(sandbox: Sandbox) -> None:
    removed, torn, stateless, sound = (sandbox.add_run(nproc=1) for _ in range(4))
    shutil.rmtree(removed.folder)
    torn.state.write_text('{"state": "que')
    stateless.state.unlink()
    with sandbox.registry() as registry:
        registry.transition(JobKey(stateless.run.id), {RunState.QUEUED}, RunState.RUNNING)
        assert dispatch(sandbox.workspace) == [JobKey(sound.run.id)]
        for job, sentence in (
            (removed, f"its folder {removed.folder} was removed"),
            (torn, f"cannot read {torn.state}"),
            (stateless, f"{stateless.state} is gone"),
        ):
            row = registry.get_run(job.run.id)
            assert row.state == RunState.FAILED
            assert sentence in row.reason
            sandbox.jobs.remove(job)
    assert sandbox.wait_end(sound).state == RunState.COMPLETED


def test_evaluation_is_a_job_of_its_own(sandbox: Sandbox) -> None:
    run = sandbox.add_run(nproc=1)
    sandbox.wait_end(sandbox.start(run))
    folder = run.run.evaluation(1)
    folder.path.mkdir(parents=True)
    folder.job.config.write_bytes(run.config.read_bytes())
    EvaluationSpec("test", "last", 0.0).write(folder)
    JobState(RunState.QUEUED, "", 0, 0.0).write(folder.job)
    sandbox.jobs.append(folder.job)
    with sandbox.registry() as registry:
        registry.create_evaluation(run.run.id, 1, "test", "last")
    dispatch(sandbox.workspace)  # unless the run's ending supervisor was faster
    assert sandbox.wait_state(folder.job, {RunState.COMPLETED})
    (attempt,) = sandbox.attempts(folder.job)
    assert attempt.tag.startswith(f"{run.run.id}.e1.0001.")
    with sandbox.registry() as registry:
        wait_for(
            "the registry",
            lambda: registry.evaluations(run.run.id)[0].state == RunState.COMPLETED,
        )
        row = registry.evaluations(run.run.id)[0]
        assert (row.split, row.checkpoint_step, row.metrics) == ("test", 10, {"m": 2.5})
        after = registry.get_run(run.run.id)
    # The run itself looks as it did before.
    assert (after.attempt, after.step, after.state) == (1, 12, RunState.COMPLETED)


def test_gpus_come_from_the_pool_of_the_submitter(
    sandbox: Sandbox, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = nvml.idle(2)
    job = sandbox.add_run(nproc=1, launch={"device": "gpu"})
    variables = {**allowed(os.environ), "CUDA_VISIBLE_DEVICES": "1"}
    write_json(job.environment, {"version": 1, "variables": variables})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED
    assert sandbox.attempts(job)[0].devices == (second,)


def test_two_jobs_never_share_a_gpu(sandbox: Sandbox, nvml: FakeNvml) -> None:
    (gpu,) = nvml.idle(1)
    launch = {"device": "gpu"}
    first = sandbox.start(sandbox.add_run(hold=True, nproc=1, launch=launch))
    attempt = sandbox.held(first)
    assert attempt.devices == (gpu,)
    second = sandbox.start(sandbox.add_run(nproc=1, launch=launch))
    wait_for("the second supervisor", lambda: JobState.read(second).state == RunState.STARTING)
    assert sandbox.attempts(second) == []
    sandbox.release(first)
    assert sandbox.wait_end(first).state == RunState.COMPLETED
    assert sandbox.wait_end(second).state == RunState.COMPLETED
    assert sandbox.attempts(second)[0].devices == (gpu,)
