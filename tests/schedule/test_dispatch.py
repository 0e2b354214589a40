from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.gpu.lease_file import FOLDER
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from orchestra.provenance.environment import allowed
from orchestra.registry.rows import Demand, JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.schedule.plan import Plan, Snapshot, plan
from orchestra.schedule.queue import position_of
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import write_json
from orchestra.wire.folders import Job
from orchestra.wire.job import RUN, TAG, EvaluationSpec, JobState
from orchestra.wire.lifeline import PARENT_PID
from orchestra.wire.states import ENDED, RunState
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
    assert sandbox.supervise(job).wait(60) == 0
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


def test_a_machine_that_can_start_no_supervisor_ends_no_job(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing interpreter is as much a missing file as a missing job folder."""
    job = sandbox.add_run(nproc=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        assert dispatch(sandbox.workspace) == []
    told = f"{job.run.id} can't be started now: [Errno 2] No such file or directory: '/nowhere"
    assert told in capsys.readouterr().err
    assert JobState.read(job).state == RunState.QUEUED
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED


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
    assert attempt.tag.startswith(f"{run.run.id}.e1.000001.")
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


GPU: dict[str, Any] = {"nproc": 1, "launch": {"device": "gpu"}}


def waits(sandbox: Sandbox, job: Job) -> str:
    """Why the job waits; empty if it does not."""
    place = position_of(sandbox.workspace, JobKey(job.run.id))
    return "" if place is None else place.reason


def test_two_jobs_never_share_a_gpu(sandbox: Sandbox, nvml: FakeNvml) -> None:
    (gpu,) = nvml.idle(1)
    first = sandbox.start(sandbox.add_run(hold=True, **GPU))
    assert sandbox.held(first).devices == (gpu,)
    second = sandbox.add_run(**GPU)
    assert dispatch(sandbox.workspace) == []
    assert sandbox.log(second) == "", "no supervisor waits for it"
    assert waits(sandbox, second) == "needs 1 GPU, 0 free; next when they are free"
    sandbox.release(first)
    assert sandbox.wait_end(first).state == RunState.COMPLETED
    assert sandbox.wait_end(second).state == RunState.COMPLETED
    assert sandbox.attempts(second)[0].devices == (gpu,)


def test_the_lease_is_the_jobs_from_before_its_supervisor_starts(
    sandbox: Sandbox, nvml: FakeNvml
) -> None:
    (gpu,) = nvml.idle(1)
    first, second = sandbox.add_run(hold=True, **GPU), sandbox.add_run(**GPU)
    assert dispatch(sandbox.workspace) == [JobKey(first.run.id)]
    assert Leases().holders()[gpu].run_id == first.run.id
    assert dispatch(sandbox.workspace) == []
    assert waits(sandbox, first) == "", "it has a supervisor, whatever the registry knows by now"
    assert "behind" not in waits(sandbox, second)
    sandbox.held(first)
    sandbox.release(first)
    assert sandbox.wait_end(second).state == RunState.COMPLETED


def test_the_next_in_the_line_is_the_one_of_higher_priority(
    sandbox: Sandbox, nvml: FakeNvml
) -> None:
    nvml.idle(1)
    first = sandbox.start(sandbox.add_run(hold=True, **GPU))
    sandbox.held(first)
    low = sandbox.add_run(**GPU)
    high = sandbox.add_run(demand=Demand(priority=1), **GPU)
    assert waits(sandbox, low).endswith(f"behind {high.run.id}")
    sandbox.release(first)
    assert sandbox.wait_end(low).state == RunState.COMPLETED
    started = [sandbox.attempts(job)[0].started_at for job in (high, low)]
    assert started == sorted(started)


def test_a_lease_lost_to_another_workspace_leaves_the_job_queued(
    sandbox: Sandbox, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gpu,) = nvml.idle(1)
    job = sandbox.add_run(**GPU)
    with Leases() as others, Prober() as prober:

        def too_late(snapshot: Snapshot) -> Plan:
            others.take(prober.read().devices, prober, "theirs", Path("/"), named=False)
            return plan(snapshot)

        with monkeypatch.context() as patch:
            patch.setattr("orchestra.schedule.dispatch.plan", too_late)
            assert dispatch(sandbox.workspace) == []
        assert JobState.read(job).state == RunState.QUEUED
        assert sandbox.log(job) == ""
        assert dispatch(sandbox.workspace) == []
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED
    assert sandbox.attempts(job)[0].devices == (gpu,)


def test_a_run_whose_supervisor_died_keeps_its_gpu(sandbox: Sandbox, nvml: FakeNvml) -> None:
    (gpu,) = nvml.idle(1)
    first = sandbox.start(sandbox.add_run(hold=True, **GPU))
    sandbox.held(first)
    second = sandbox.add_run(demand=Demand(priority=9), **GPU)
    sandbox.kill_supervisor(first)
    kept = f"(GPU 0: kept for {first.run.id}, which goes on)"
    third = sandbox.add_run(**{**GPU, "launch": {**GPU["launch"], "gpu_ids": ["0"]}})
    assert kept in waits(sandbox, third), "before the dispatch, too"
    sandbox.stop(third)
    assert dispatch(sandbox.workspace) == [JobKey(first.run.id)]
    assert dispatch(sandbox.workspace) == [], "its new supervisor has yet to lease them"
    sandbox.release(first)
    assert sandbox.wait_end(first).state == RunState.COMPLETED
    assert sandbox.attempts(first)[-1].devices == (gpu,)
    assert sandbox.wait_end(second).state == RunState.COMPLETED
    assert sandbox.attempts(second)[0].started_at >= sandbox.attempts(first)[-1].started_at


def test_wrong_settings_give_a_revived_run_back_to_the_queue(
    sandbox: Sandbox, nvml: FakeNvml
) -> None:
    nvml.idle(1)
    job = sandbox.start(sandbox.add_run(hold=True, **GPU))
    sandbox.held(job)
    sandbox.kill_supervisor(job)
    settings = sandbox.workspace.root / "orchestra.toml"
    settings.write_text("[gpus]\nlimt = 1\n")
    sandbox.start(job)
    told = f"{settings}: unknown key gpus.limt: keys are limit, ids"
    assert sandbox.wait_state(job, {RunState.QUEUED, *ENDED}).reason == told
    wait_for("the queue to say so", lambda: waits(sandbox, job) == told)
    settings.unlink()
    sandbox.release(job)
    dispatch(sandbox.workspace)  # unless the conductor was faster
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_the_workspace_holds_no_more_than_its_limit(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.idle(2)
    (sandbox.workspace.root / "orchestra.toml").write_text("[gpus]\nlimit = 1\n")
    first, second = sandbox.add_run(hold=True, **GPU), sandbox.add_run(**GPU)
    assert dispatch(sandbox.workspace) == [JobKey(first.run.id)]
    full = "gpus.limit = 1 of this workspace reached (1 in use); next when they are free"
    assert waits(sandbox, second) == full
    sandbox.held(first)
    sandbox.release(first)
    assert sandbox.wait_end(second).state == RunState.COMPLETED


def test_wrong_settings_stop_only_what_wants_gpus(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.idle(1)
    settings = sandbox.workspace.root / "orchestra.toml"
    settings.write_text("[gpus]\nlimt = 1\n")
    gpu, cpu = sandbox.add_run(**GPU), sandbox.add_run(nproc=1)
    assert dispatch(sandbox.workspace) == [JobKey(cpu.run.id)]
    assert waits(sandbox, gpu) == f"{settings}: unknown key gpus.limt: keys are limit, ids"
    settings.unlink()
    assert sandbox.wait_end(cpu).state == RunState.COMPLETED
    assert sandbox.wait_end(gpu).state == RunState.COMPLETED


def test_leases_that_cannot_be_kept_stop_only_what_wants_them(
    sandbox: Sandbox, nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gpu,) = nvml.idle(1)
    folder = tmp_path / "my-leases"
    monkeypatch.setenv(FOLDER, str(folder))
    wants, cpu = sandbox.add_run(**GPU), sandbox.add_run(hold=True, nproc=1)
    folder.touch()
    assert dispatch(sandbox.workspace) == [JobKey(cpu.run.id)]
    told = f"GPU 0: {folder} is no folder; leases can't be kept there"
    assert told in waits(sandbox, wants)
    folder.unlink()
    folder.mkdir()
    (folder / f"{gpu}.lock").symlink_to("elsewhere")
    assert dispatch(sandbox.workspace) == []
    assert f"GPU 0: cannot open the lease {folder}/{gpu}.lock: " in waits(sandbox, wants)
    (folder / f"{gpu}.lock").unlink()
    sandbox.release(cpu)
    assert sandbox.wait_end(cpu).state == RunState.COMPLETED
    assert sandbox.wait_end(wants).state == RunState.COMPLETED


def test_a_lease_that_cannot_be_opened_any_more_stops_no_other(
    sandbox: Sandbox, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.idle(1)
    wants, cpu = sandbox.add_run(**GPU), sandbox.add_run(nproc=1)

    def broken(*arguments: object, **options: object) -> None:
        raise OrchestraError("cannot open the lease")

    with monkeypatch.context() as patch:
        patch.setattr(Leases, "take", broken)
        assert dispatch(sandbox.workspace) == [JobKey(cpu.run.id)]
    assert JobState.read(wants).state == RunState.QUEUED
    assert sandbox.wait_end(cpu).state == RunState.COMPLETED
    assert sandbox.wait_end(wants).state == RunState.COMPLETED


def test_a_run_after_another_starts_when_that_one_is_completed(sandbox: Sandbox) -> None:
    first = sandbox.add_run(hold=True, nproc=1)
    second = sandbox.add_run(nproc=1, demand=Demand(after=first.run.id))
    third = sandbox.add_run(nproc=1, demand=Demand(after="removed"))
    assert dispatch(sandbox.workspace) == [JobKey(first.run.id)]
    sandbox.held(first)
    told = f"waits for run {first.run.id}, which is running"
    wait_for("the reason", lambda: waits(sandbox, second) == told)
    assert waits(sandbox, third).endswith("which was removed: stop this one")
    sandbox.release(first)
    assert sandbox.wait_end(second).state == RunState.COMPLETED
    assert sandbox.attempts(second)[0].started_at >= JobState.read(first).updated_at
    assert JobState.read(third).state == RunState.QUEUED


def test_a_run_after_one_that_failed_waits_and_says_so(sandbox: Sandbox) -> None:
    first = sandbox.add_run(nproc=1, faults=[{"attempt": 0, "rank": 0, "step": 1, "how": "exit78"}])
    second = sandbox.add_run(nproc=1, demand=Demand(after=first.run.id))
    assert sandbox.wait_end(sandbox.start(first)).state == RunState.FAILED
    assert dispatch(sandbox.workspace) == []
    told = f"waits for run {first.run.id}, which failed: resume it or stop this one"
    assert waits(sandbox, second) == told


def test_a_member_that_failed_or_was_stopped_keeps_no_other_from_its_turn(
    sandbox: Sandbox,
) -> None:
    fails = [{"attempt": 0, "rank": 0, "step": 1, "how": "exit78"}]
    first = sandbox.add_run(nproc=1, parent="p", hold=True)
    second = sandbox.add_run(nproc=1, parent="p", faults=fails)
    third = sandbox.add_run(nproc=1, parent="p")
    assert dispatch(sandbox.workspace) == [JobKey(first.run.id)]
    sandbox.held(first)
    assert dispatch(sandbox.workspace) == []
    assert f"waits for run {first.run.id}" in waits(sandbox, third)
    sandbox.stop(first)
    assert sandbox.wait_end(second).state == RunState.FAILED
    assert sandbox.wait_end(third).state == RunState.COMPLETED
    began = [sandbox.attempts(job)[0].started_at for job in (second, third)]
    assert began[0] >= JobState.read(first).updated_at
    assert began[1] >= JobState.read(second).updated_at
