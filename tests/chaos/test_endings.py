"""How a job ends when it should not go on: crash loops, bad config, stop, rivals, neighbours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.supervise.mirror import Mirror
from orchestra.supervise.state import JobRecord
from orchestra.supervise.stop import stop_job
from orchestra.wire.errors import ConflictError, NotFoundError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import TAG, JobState, StopFlag
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import Sandbox, wait_for


def key(job: object) -> JobKey:
    return JobKey(job.run.id)  # type: ignore[attr-defined]


@pytest.mark.fault("crash loop")
def test_crash_loop_ends_after_max_restarts(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 1, "step": 3, "how": "kill"}
    job = sandbox.start(
        sandbox.add_run(hold=True, save_every=100, faults=[fault], launch={"max_restarts": 1})
    )
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "rank 1 was killed by SIGKILL after step" in state.reason
    assert state.reason.endswith("; gave up after two attempts without a new checkpoint")
    assert [item.state for item in sandbox.attempts(job)] == [AttemptState.CRASHED] * 2
    assert not sandbox.alive(job)


def test_a_run_that_ends_early_says_why(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(nproc=1, reason="early stopping: enough"))
    state = sandbox.wait_end(job)
    assert (state.state, state.reason) == (RunState.COMPLETED, "early stopping: enough")


@pytest.mark.fault("same exception twice")
def test_the_same_exception_before_the_first_step_is_tried_twice(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 0, "step": 0, "how": "raise"}
    job = sandbox.start(sandbox.add_run(nproc=1, faults=[fault], launch={"max_restarts": 3}))
    state = sandbox.wait_end(job)
    twice = "boom; failed the same way twice at the same step: a deterministic bug or a bad sample"
    assert state.reason.endswith(twice)
    first, second = (attempt.failure for attempt in sandbox.attempts(job))
    assert first is not None
    assert second is not None
    assert first["cause"] == second["cause"] == "crash"
    assert first["action"] == "restart 1 of 3 from the beginning at once"
    assert first["last_lines"][0] == "about to raise"
    assert first["last_lines"][-1] == "RuntimeError: boom"


def test_progress_refills_the_budget(sandbox: Sandbox) -> None:
    """Two crashes with a checkpoint between them are not a crash loop."""
    faults = [
        # Ranks don't wait for each other: it is rank 0 that saves, at step 5.
        {"attempt": 1, "rank": 0, "step": 3, "how": "kill"},
        {"attempt": 2, "rank": 0, "step": 7, "how": "kill"},
    ]
    job = sandbox.start(sandbox.add_run(faults=faults, launch={"max_restarts": 1}))
    assert sandbox.wait_end(job).state == RunState.COMPLETED


@pytest.mark.fault("bad config")
def test_bad_config_is_not_retried(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": f"exit{ExitCode.BAD_CONFIG.value}"}
    job = sandbox.start(sandbox.add_run(nproc=1, faults=[fault]))
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "not retried: correct the config" in state.reason
    assert len(sandbox.attempts(job)) == 1


OUT_OF_MEMORY = f"exit{ExitCode.OUT_OF_MEMORY.value}"


def test_out_of_memory_is_tried_again_in_smaller_parts(sandbox: Sandbox) -> None:
    """In a step, then before the first step of the attempt that follows."""
    faults = [
        {"attempt": 1, "rank": 0, "step": 2, "how": OUT_OF_MEMORY},
        {"attempt": 2, "rank": 0, "step": 0, "how": OUT_OF_MEMORY},
    ]
    job = sandbox.add_run(nproc=1, faults=faults, launch={"oom_split": True})
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED
    attempts = sandbox.attempts(job)
    assert [attempt.split for attempt in attempts] == [1, 2, 4]
    assert "micro-batches cut in 2, the run is no longer exact" in attempts[0].reason
    assert attempts[1].failure is not None
    assert (attempts[1].failure["cause"], attempts[1].failure["exit_code"]) == ("out of memory", 71)


def test_out_of_memory_before_the_first_step_is_not_tried_again(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 0, "step": 0, "how": OUT_OF_MEMORY}
    state = sandbox.wait_end(sandbox.start(sandbox.add_run(nproc=1, faults=[fault])))
    remedy = "lower batch.max_micro_seconds or allow launch.oom_split"
    assert state.reason.endswith(f"; not retried: {remedy}")


def test_exit_without_result_is_a_failure(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": "vanish"}
    job = sandbox.start(sandbox.add_run(nproc=1, faults=[fault], launch={"max_restarts": 0}))
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "rank 0 left no result" in state.reason


def test_missing_snapshot_fails_the_run_with_a_sentence(sandbox: Sandbox) -> None:
    job = sandbox.add_run()
    sandbox.code.rename(sandbox.code.with_name("moved"))
    state = sandbox.wait_end(sandbox.start(job))
    assert state.state == RunState.FAILED
    assert "the code snapshot" in state.reason


def test_stop_lets_the_ranks_save(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    stop_job(sandbox.workspace, key(job))
    state = sandbox.wait_end(job)
    assert (state.state, state.reason) == (RunState.STOPPED, "stopped on request at step 6")
    assert job.run.checkpoint(6).is_dir()
    assert not sandbox.alive(job)
    with pytest.raises(ConflictError, match="has ended already: it is stopped"):
        stop_job(sandbox.workspace, key(job))


def test_stop_kills_ranks_that_do_not_listen(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True, deaf=True))
    sandbox.held(job)
    stop_job(sandbox.workspace, key(job), grace_s=0.1)
    state = sandbox.wait_end(job)
    assert state.state == RunState.STOPPED
    assert "without a new save; the newest checkpoint is step 5" in state.reason
    assert not sandbox.alive(job)


def test_stop_now_does_not_wait_for_a_save(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True, deaf=True))
    sandbox.held(job)
    stop_job(sandbox.workspace, key(job), now=True)
    assert sandbox.wait_end(job).state == RunState.STOPPED
    assert not sandbox.alive(job)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_supervisor_preempts_the_run(
    sandbox: Sandbox, number: signal.Signals
) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    os.kill(sandbox.supervisor(job).pid, number)
    state = sandbox.wait_end(job)
    assert (state.state, state.reason) == (
        RunState.PREEMPTED,
        "preempted by a signal at step 6",
    )
    assert job.run.checkpoint(6).is_dir()
    assert not job.stop.exists()
    assert not sandbox.alive(job)


def test_stop_of_queued_and_orphaned_jobs(sandbox: Sandbox) -> None:
    queued = sandbox.add_run()
    stop_job(sandbox.workspace, key(queued))
    assert sandbox.wait_end(queued).reason == "stopped before it started"
    orphan = sandbox.start(sandbox.add_run(hold=True, armed=False))
    sandbox.held(orphan)
    sandbox.kill_supervisor(orphan)
    stop_job(sandbox.workspace, key(orphan))
    assert sandbox.wait_end(orphan).state == RunState.STOPPED
    assert not sandbox.alive(orphan)


def test_stop_of_a_removed_job_is_a_sentence(sandbox: Sandbox) -> None:
    job = sandbox.add_run()
    sandbox.jobs.remove(job)
    job.state.unlink()
    with pytest.raises(NotFoundError, match=r"state.json of .* is gone: `orchestra rm "):
        stop_job(sandbox.workspace, key(job))
    shutil.rmtree(job.folder)
    with pytest.raises(NotFoundError, match="is gone: `orchestra rm "):
        stop_job(sandbox.workspace, key(job))


def test_stop_during_back_off(sandbox: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": "raise"}
    job = sandbox.add_run(nproc=1, faults=[fault], launch={"backoff_s": 600.0})
    fail_before(job)
    sandbox.start(job)
    sandbox.wait_state(job, {RunState.RESTARTING})
    stop_job(sandbox.workspace, key(job))
    assert sandbox.wait_end(job).state == RunState.STOPPED


def test_budget_survives_the_supervisor(sandbox: Sandbox) -> None:
    """A crash loop is one, though its supervisor was killed between two attempts."""
    state = killed_between_attempts(sandbox, "kill", max_restarts=2)
    assert "gave up after three attempts" in state.reason


def test_the_failure_before_survives_the_supervisor(sandbox: Sandbox) -> None:
    """The same exception twice is known as such, though another supervisor saw the first."""
    state = killed_between_attempts(sandbox, "raise", max_restarts=9)
    assert "failed the same way twice at the same step" in state.reason


def killed_between_attempts(sandbox: Sandbox, how: str, max_restarts: int) -> JobState:
    """The end of a job that fails in each attempt, its supervisor killed while it backs off."""
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": how}
    launch = {"backoff_s": 600.0, "max_restarts": max_restarts}
    job = sandbox.add_run(nproc=1, faults=[fault], launch=launch)
    fail_before(job)
    sandbox.start(job)
    sandbox.wait_state(job, {RunState.RESTARTING})
    sandbox.kill_supervisor(job)
    dispatch(sandbox.workspace)
    state = sandbox.wait_end(job)
    assert (state.state, len(sandbox.attempts(job))) == (RunState.FAILED, 2)
    return state


def fail_before(job: Job) -> None:
    """The first restart is at once; make the one to come the second."""
    replace(JobState.read(job), failures=1).write(job)


def test_budget_survives_the_queue(sandbox: Sandbox) -> None:
    """A crash loop is one, though the job was queued again because its GPUs were taken."""
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": "raise"}
    job = sandbox.add_run(nproc=1, faults=[fault], launch={"max_restarts": 1})
    fail_before(job)
    with sandbox.registry() as registry:
        record = JobRecord(job, key(job), registry, Mirror(), supervisor=None)
        record.move(RunState.STARTING)
        record.move(RunState.QUEUED, "its GPUs are taken")
    state = sandbox.wait_end(sandbox.start(job))
    assert (state.state, len(sandbox.attempts(job))) == (RunState.FAILED, 1)
    assert "gave up after two attempts" in state.reason


def test_state_that_cannot_be_written_fails_the_job_and_leaves_no_process(
    sandbox: Sandbox,
) -> None:
    job = sandbox.start(sandbox.add_run(hold=True, deaf=True, armed=False))
    sandbox.held(job)
    sandbox.wait_state(job, {RunState.RUNNING})
    # What the supervisor would write first can't be made: in the way of any user, root too.
    in_the_way = job.folder / f".state.json.{sandbox.supervisor(job).pid}.tmp"
    in_the_way.mkdir()
    stop_job(sandbox.workspace, key(job))
    with sandbox.registry() as registry:
        wait_for("failed", lambda: registry.get_run(job.run.id).state == RunState.FAILED)
        assert f"cannot write {job.state}" in registry.get_run(job.run.id).reason
    assert not sandbox.alive(job)
    (attempt,) = sandbox.attempts(job)
    assert attempt.state == AttemptState.LOST
    assert attempt.reason.startswith("its supervisor failed: cannot write")
    in_the_way.rmdir()  # and what could not be written is tried again
    assert sandbox.wait_end(job).state == RunState.FAILED


FULL_DISK = """
import resource, sys
from orchestra.supervise import __main__ as program, supervisor
supervisor._LAST_WRITES_S = 0.2

class Supervisor(supervisor.Supervisor):
    def run(self):
        endless = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, endless))
        try:
            return super().run()
        finally:  # what is started afterwards is not to inherit it
            resource.setrlimit(resource.RLIMIT_FSIZE, (endless, endless))

program.Supervisor = Supervisor
sys.exit(program.main(sys.argv[1:]))
"""


def test_revived_on_a_disk_that_is_still_full(sandbox: Sandbox) -> None:
    """It ends with a sentence; when there is space again, the job goes on."""
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    sandbox.kill_supervisor(job)
    arguments = [str(job.folder), "--kind", "train", "--runs", str(sandbox.workspace.runs.path)]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments, "--workspace", str(job.folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "failed: cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(sandbox.attempts(job)) == 1
    sandbox.release(job)
    dispatch(sandbox.workspace)  # unless a conductor was faster
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_flag_of_an_earlier_life_does_not_stop_a_resumed_run(sandbox: Sandbox) -> None:
    job = sandbox.add_run()
    StopFlag(time.time() - 60, 1.0).write(job)
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED


def test_second_supervisor_ends_by_the_lock(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    rival = sandbox.supervise(job)
    _, said = rival.communicate(timeout=60)
    assert rival.returncode == ExitCode.CONFLICT
    assert b"has a supervisor already" in said
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert len(sandbox.attempts(job)) == 1


def test_job_of_another_machine_is_never_touched(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True, armed=False))
    attempt = sandbox.held(job)
    sandbox.kill_supervisor(job)
    state = JobState.read(job)
    assert state.supervisor is not None
    there = replace(state.supervisor, machine_id="another", host="other-host")
    replace(state, supervisor=there).write(job)
    assert dispatch(sandbox.workspace) == []
    with pytest.raises(ConflictError, match="lives on host other-host"):
        stop_job(sandbox.workspace, key(job))
    alive = {process.pid for process in sandbox.alive(job)}
    assert set(attempt.ranks) <= alive


def test_job_of_an_earlier_boot_is_revived(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    sandbox.kill_supervisor(job)
    state = JobState.read(job)
    assert state.supervisor is not None
    # After a reboot the pid may be anybody's, ours here.
    earlier = replace(ProcessIdentity.of(os.getpid()), boot_id="earlier")  # type: ignore[type-var]
    replace(state, supervisor=earlier).write(job)
    sandbox.release(job)
    assert dispatch(sandbox.workspace) == [key(job)]
    assert sandbox.wait_end(job).state == RunState.COMPLETED


@pytest.mark.fault("a neighbour with a similar tag")
def test_neighbour_with_a_similar_tag_survives(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    neighbours = [
        subprocess.Popen(["/bin/sleep", "600"], env={TAG: tag})
        for tag in (attempt.tag + "0", attempt.tag[:-1], attempt.tag.upper())
    ]
    try:
        stop_job(sandbox.workspace, key(job), now=True)
        sandbox.wait_end(job)
        assert not sandbox.alive(job)
        assert all(process.poll() is None for process in neighbours)
    finally:
        for process in neighbours:
            process.kill()
            process.wait()


@pytest.mark.fault("two jobs at once")
def test_two_runs_at_once_are_independent(sandbox: Sandbox) -> None:
    first, second = sandbox.add_run(hold=True), sandbox.add_run(hold=True)
    assert dispatch(sandbox.workspace) == [key(first), key(second)]
    attempts = [sandbox.held(first), sandbox.held(second)]
    os.kill(attempts[0].ranks[0], signal.SIGKILL)
    wait_for("a restart", lambda: len(sandbox.attempts(first)) == 2)
    for job in (first, second):
        sandbox.release(job)
        assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert len(sandbox.attempts(second)) == 1


def test_registry_that_cannot_be_written_does_not_stop_a_run(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    with sandbox.registry() as registry:
        registry.delete_run(job.run.id)
    sandbox.release(job)
    assert sandbox.wait_state(job, {RunState.COMPLETED})
    wait_for("the supervisor's end", lambda: "not recorded" in sandbox.log(job))


def test_an_evaluation_has_each_state_once_and_no_steps(sandbox: Sandbox) -> None:
    fault = {"attempt": 1, "rank": 0, "step": 0, "how": "raise"}
    run = sandbox.add_run(nproc=1, faults=[fault]).run
    run.checkpoint(10).mkdir(parents=True)  # the run's steps are not the evaluation's
    job = run.evaluation(1).job
    job.folder.mkdir(parents=True)
    shutil.copy(run.job.config, job.config)
    JobState(RunState.QUEUED, "", 0, time.time()).write(job)
    with sandbox.registry() as registry:
        registry.create_evaluation(run.id, 1, "test", "best")
    assert sandbox.supervise(job).wait(60) == 0
    with sandbox.registry() as registry:
        events = [event for event in registry.events(run.id) if event.evaluation == 1]
        row = registry.evaluations(run.id)[0]
    told = [event.text for event in events]
    failed = "rank 0 failed with exit code 1: RuntimeError: boom"
    again = f"{failed}; restart 1 of 2 from the beginning at once"
    assert told == [
        "queued: test with checkpoint best",
        "queued -> starting",
        "attempt 1 started with 1 rank",
        "starting -> running",
        f"attempt 1 crashed: {again}",
        f"running -> restarting: {again}",
        "attempt 2 started with 1 rank",
        "restarting -> running",
        "attempt 2 completed",
        "running -> completed",
    ]
    assert (row.metrics, row.checkpoint_step) == ({"m": 2.5}, 10)


def test_a_run_that_takes_its_supervisors_down_ends(sandbox: Sandbox) -> None:
    """Each attempt gets its supervisor killed and saves nothing."""
    job = sandbox.add_run(hold=True, save_every=100)
    for number in (1, 2, 3):
        dispatch(sandbox.workspace)  # unless a conductor is faster
        wait_for("the attempt", lambda number=number: len(sandbox.attempts(job)) == number)
        sandbox.held(job)
        sandbox.kill_supervisor(job)
    dispatch(sandbox.workspace)
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "its supervisor died; gave up after 3 failures without a new checkpoint" in state.reason
    assert len(sandbox.attempts(job)) == 3
    assert not sandbox.alive(job)
    assert not sandbox.launchers(job)


def test_a_launcher_that_dies_in_a_pause_wakes_nobody(sandbox: Sandbox) -> None:
    """Its supervisor sleeps through the rest of the back-off."""
    fault = {"attempt": 0, "rank": 0, "step": 2, "how": "kill"}
    job = sandbox.add_run(nproc=1, faults=[fault], launch={"backoff_s": 600.0})
    sandbox.start(job)
    wait_for("the second pause", lambda: JobState.read(job).failures == 2)
    (launcher,) = sandbox.launchers(job)
    os.kill(launcher.pid, signal.SIGKILL)
    wait_for("its death", lambda: not launcher.is_alive())
    before = _turns(sandbox.supervisor(job).pid)
    wait_for("a turn", lambda: _turns(sandbox.supervisor(job).pid) > before)
    assert _turns(sandbox.supervisor(job).pid) < before + 50
    stop_job(sandbox.workspace, key(job))
    assert sandbox.wait_end(job).state == RunState.STOPPED


def _turns(pid: int) -> int:
    """How often a process has gone to sleep by itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def test_sigusr1_to_all_processes_of_a_job_lets_the_ranks_save(sandbox: Sandbox) -> None:
    """As schedulers send it."""
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    for process in [*sandbox.alive(job), *sandbox.launchers(job), sandbox.supervisor(job)]:
        os.kill(process.pid, signal.SIGUSR1)
    assert sandbox.wait_end(job).reason == "preempted by a signal at step 6"


def test_code_of_an_orchestra_without_launcher_is_refused_with_a_sentence(sandbox: Sandbox) -> None:
    (sandbox.code / "orchestra" / "train" / "launcher.py").unlink()
    state = sandbox.wait_end(sandbox.start(sandbox.add_run()))
    assert state.state == RunState.FAILED
    assert "is of an older orchestra, which this one can't launch" in state.reason


def test_a_logout_that_removes_heartbeats_kills_no_run(sandbox: Sandbox) -> None:
    """logind's RemoveIPC unlinks all that a user has in /dev/shm; ranks beat on."""
    launch = {"step_deadline_s": 2.0}
    job = sandbox.start(sandbox.add_run(hold=True, beats=True, launch=launch))
    attempt = sandbox.held(job)
    shutil.rmtree(pages_folder(attempt.tag))
    before = _turns(sandbox.supervisor(job).pid)
    wait_for("turns", lambda: _turns(sandbox.supervisor(job).pid) > before + 20)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert len(sandbox.attempts(job)) == 1
