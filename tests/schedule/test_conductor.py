"""The conductor as a real process: what it revives, how it is replaced, when it ends."""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule import conductor as module
from orchestra.schedule.conductor import Conductor, conductor_is_alive, ensure_conductor
from orchestra.schedule.revive import MOST_REVIVALS, Revivals, find_work
from orchestra.schedule.spawn import spawn
from orchestra.supervise.lock import FileLock
from orchestra.wire.folders import Job
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import TAG, JobState
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox, conductor, wait_for


def at_work(sandbox: Sandbox) -> Job:
    """A run that is held at a step."""
    job = sandbox.start(sandbox.add_run(hold=True, nproc=1))
    sandbox.held(job)
    return job


def pretend(job: Job, **changes: object) -> None:
    """As if the job's supervisor had lived elsewhere, or in another boot."""
    state = JobState.read(job)
    assert state.supervisor is not None
    replace(state, supervisor=replace(state.supervisor, **changes)).write(job)


def log(sandbox: Sandbox) -> str:
    return sandbox.workspace.runs.conductor_log.read_text()


def no_conductor(sandbox: Sandbox) -> None:
    wait_for("the conductor's end", lambda: not conductor_is_alive(sandbox.workspace.runs))


def test_a_killed_supervisor_is_replaced_without_any_command(sandbox: Sandbox) -> None:
    job = at_work(sandbox)
    assert ensure_conductor(sandbox.workspace)
    sandbox.kill_supervisor(job)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert len(sandbox.attempts(job)) == 2
    assert "its supervisor had died; a supervisor starts" in log(sandbox)
    no_conductor(sandbox)


def test_without_a_conductor_it_stays_dead(sandbox: Sandbox) -> None:
    """Negative control, and a job that is orphaned is work for the next conductor."""
    job = at_work(sandbox)
    sandbox.kill_supervisor(job)
    assert JobState.read(job).is_orphaned()
    assert not conductor_is_alive(sandbox.workspace.runs)
    sandbox.release(job)
    assert ensure_conductor(sandbox.workspace)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_a_queued_job_is_started(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    assert ensure_conductor(sandbox.workspace)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_a_killed_conductor_is_replaced(sandbox: Sandbox) -> None:
    at_work(sandbox)
    assert ensure_conductor(sandbox.workspace)
    assert not ensure_conductor(sandbox.workspace)  # one is enough
    first = conductor(sandbox.workspace.runs)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_for("its death", lambda: not first.is_alive())
    assert not conductor_is_alive(sandbox.workspace.runs)
    assert ensure_conductor(sandbox.workspace)
    second = conductor(sandbox.workspace.runs)
    assert second is not None and second != first


def test_of_many_that_want_one_a_single_one_starts_it(sandbox: Sandbox) -> None:
    sandbox.add_run()
    at_work(sandbox)
    with ThreadPoolExecutor(8) as threads:
        started = [threads.submit(ensure_conductor, sandbox.workspace) for _ in range(8)]
    assert sum(item.result() for item in started) == 1
    assert conductor(sandbox.workspace.runs) is not None
    assert log(sandbox).count("conductor ") == 1


def test_a_job_that_is_queued_as_the_conductor_ends_has_one(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command still finds the lock held; the conductor looks again when it has let go."""
    work_off = Conductor._work_off
    told: list[bool] = []

    def nothing_left(conductor: Conductor) -> None:
        monkeypatch.setattr(Conductor, "_work_off", work_off)
        sandbox.add_run(nproc=1)
        told.append(ensure_conductor(sandbox.workspace))

    monkeypatch.setattr(Conductor, "_work_off", nothing_left)
    monkeypatch.setattr(module, "_TURN_S", 0.05)
    lock = FileLock.acquire_if_free(sandbox.workspace.runs.conductor_lock)
    assert lock is not None
    Conductor(sandbox.workspace, lock).conduct()
    assert told == [False]
    assert sandbox.wait_end(sandbox.jobs[0]).state == RunState.COMPLETED
    assert not conductor_is_alive(sandbox.workspace.runs)


def test_no_work_no_conductor(sandbox: Sandbox, tmp_path: Path) -> None:
    assert not ensure_conductor(sandbox.workspace)
    shutil.rmtree(sandbox.workspace.runs.path)
    assert not ensure_conductor(sandbox.workspace)
    assert not sandbox.workspace.runs.path.exists()


def test_it_ends_when_its_runs_are_gone(sandbox: Sandbox) -> None:
    job = sandbox.add_run(hold=True, nproc=1, save_every=100)
    assert ensure_conductor(sandbox.workspace)
    process = conductor(sandbox.workspace.runs)
    assert process is not None
    sandbox.held(job)  # the conductor sleeps after it has started something
    path = sandbox.workspace.runs.path
    path.rename(path.with_name("moved"))
    wait_for("its end", lambda: not process.is_alive())
    assert not path.exists()  # it made nothing anew
    path.with_name("moved").rename(path)


def test_a_removed_lock_file_is_no_licence_for_two(sandbox: Sandbox) -> None:
    at_work(sandbox)
    assert ensure_conductor(sandbox.workspace)
    first = conductor(sandbox.workspace.runs)
    sandbox.workspace.runs.conductor_lock.unlink()
    ensure_conductor(sandbox.workspace)  # it or the first takes the new file
    holder = conductor(sandbox.workspace.runs)
    assert first is not None
    wait_for("one of the two", lambda: holder == first or not first.is_alive())


def test_another_machines_job_is_none_of_its_business(sandbox: Sandbox) -> None:
    job = at_work(sandbox)
    sandbox.kill_supervisor(job)
    pretend(job, machine_id="another", host="elsewhere")
    with sandbox.registry() as registry:
        assert not find_work(sandbox.workspace.runs, registry)
    assert not ensure_conductor(sandbox.workspace)


def test_after_a_reboot_the_job_is_revived(sandbox: Sandbox) -> None:
    """The boot id tells: pid and ticks name a process that lives now."""
    job = at_work(sandbox)
    sandbox.kill_supervisor(job)
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    pretend(job, pid=me.pid, start_ticks=me.start_ticks)
    assert not JobState.read(job).is_orphaned()
    pretend(job, boot_id="the boot before")
    sandbox.release(job)
    assert ensure_conductor(sandbox.workspace)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_supervisors_that_die_at_once_are_not_replaced_for_ever(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = at_work(sandbox)
    sandbox.kill_supervisor(job)
    key = JobKey(job.run.id)
    started: list[JobKey] = []
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    monkeypatch.setattr(
        "orchestra.schedule.dispatch.dispatch",
        lambda workspace, prober: started.append(key) or [key],
    )
    lock = FileLock.acquire_if_free(sandbox.workspace.runs.conductor_lock)
    assert lock is not None
    Conductor(sandbox.workspace, lock).conduct()
    assert len(started) == MOST_REVIVALS
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "5 new ones before they could start an attempt" in state.reason
    assert f"`orchestra resume {job.run.id}`" in state.reason


def test_a_queued_job_whose_supervisors_never_come_up_ends(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(nproc=1)
    started: list[str] = []

    def broken(module: str, *arguments: Any, **options: Any) -> None:
        assert len(started) < 2 * MOST_REVIVALS, "for ever"
        started.append(module)
        spawn("orchestra.no_such_module", *arguments, **options)

    monkeypatch.setattr("orchestra.schedule.dispatch.spawn", broken)
    monkeypatch.setattr(module, "_TURN_S", 0.1)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.1)
    lock = FileLock.acquire_if_free(sandbox.workspace.runs.conductor_lock)
    assert lock is not None
    Conductor(sandbox.workspace, lock).conduct()
    assert started == ["orchestra.supervise"] * MOST_REVIVALS
    state = sandbox.wait_end(job)
    assert state.state == RunState.FAILED
    assert "5 supervisors died before they could take it over" in state.reason
    assert f"mend what {job.supervisor_log} names, then `orchestra resume" in state.reason
    assert "no_such_module" in sandbox.log(job)


def test_a_job_that_went_back_to_the_queue_is_not_counted(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisors came up, and found that its GPUs were taken."""
    job = sandbox.add_run(nproc=1)
    key = JobKey(job.run.id)
    started: list[JobKey] = []

    def give_back(workspace: object, prober: object) -> list[JobKey]:
        state = JobState.read(job)
        done = len(started) == 2 * MOST_REVIVALS
        told = RunState.STOPPED if done else RunState.QUEUED
        replace(state, state=told, updated_at=state.updated_at + 1).write(job)
        if done:
            with sandbox.registry() as registry:
                registry.transition(key, {RunState.QUEUED}, told)
            return []
        started.append(key)
        return [key]

    monkeypatch.setattr(module, "_TURN_S", 0.0)
    monkeypatch.setattr("orchestra.schedule.dispatch.dispatch", give_back)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)
    lock = FileLock.acquire_if_free(sandbox.workspace.runs.conductor_lock)
    assert lock is not None
    Conductor(sandbox.workspace, lock).conduct()
    assert sandbox.wait_end(job).state == RunState.STOPPED


def test_an_attempt_refills_the_revivals() -> None:
    revivals, key = Revivals(), JobKey("r")
    for _ in range(MOST_REVIVALS):
        assert not revivals.exhausted(key, 1)
        revivals.note(key, 1)
    assert revivals.exhausted(key, 1)
    assert not revivals.exhausted(key, 2)
    revivals.note(key, 2)
    assert not revivals.exhausted(key, 2)
    assert not revivals.exhausted(JobKey("other"), 1)


def test_a_full_disk_starts_nothing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = at_work(sandbox)
    sandbox.kill_supervisor(job)
    full = [True, True, True, False]
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    monkeypatch.setattr("orchestra.wire.files.is_disk_full", lambda folder: full.pop(0))
    told: list[int] = []
    monkeypatch.setattr(
        "orchestra.schedule.dispatch.dispatch",
        lambda workspace, prober: told.append(len(full)) or sandbox.release(job) or [],
    )
    lock = FileLock.acquire_if_free(sandbox.workspace.runs.conductor_lock)
    assert lock is not None
    with lock, pytest.raises(IndexError):  # the reading after the disk got room
        Conductor(sandbox.workspace, lock).conduct()
    assert told == [0]


def test_nothing_of_a_job_is_inherited(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conductor started from a job's shell must outlive the sweep of that job."""
    at_work(sandbox)
    monkeypatch.setenv(TAG, "r.1.abc")
    monkeypatch.setenv("ORCHESTRA_JOB", "/somewhere")
    assert ensure_conductor(sandbox.workspace)
    process = conductor(sandbox.workspace.runs)
    assert process is not None
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"ORCHESTRA_TAG" not in environment and b"ORCHESTRA_JOB" not in environment
    assert os.getsid(process.pid) == process.pid


def test_it_outlives_its_log(sandbox: Sandbox) -> None:
    """It writes to the removed file, until that is long enough for a new one."""
    runs = sandbox.workspace.runs
    job = at_work(sandbox)
    assert ensure_conductor(sandbox.workspace)
    first = conductor(runs)
    assert first is not None
    with Path(f"/proc/{first.pid}/fd/2").open("ab") as removed:
        runs.conductor_log.unlink()
        removed.write(b"x" * 2**19)
    wait_for("the new log", runs.conductor_log.is_file)
    assert conductor(runs) == first
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_a_long_log_is_cut(sandbox: Sandbox) -> None:
    runs = sandbox.workspace.runs
    runs.conductor_log.write_bytes(b"x" * 2**19)
    at_work(sandbox)
    assert ensure_conductor(sandbox.workspace)
    old = runs.path / ".conductor.log.1"
    wait_for("the old log", old.is_file)
    wait_for("the new one", lambda: runs.conductor_log.is_file())
    assert runs.conductor_log.stat().st_size < 2**18 < old.stat().st_size
