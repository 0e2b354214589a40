"""Who acts after a question acts on what the question was about, or not at all."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.remove import remove_run
from orchestra.schedule.resume import resume
from orchestra.schedule.seen import Seen, check_seen, see
from orchestra.schedule.stake import at_stake, removal
from orchestra.schedule.stop import stop_run
from orchestra.wire.errors import ConflictError
from orchestra.wire.folders import Job
from orchestra.wire.identity import self_identity, user_name
from orchestra.wire.job import JobState, StopFlag
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox
from tests.wire.checkpoint_folders import make_checkpoint


def seen_now(sandbox: Sandbox, job: Job) -> Seen:
    with sandbox.registry() as registry:
        return see(sandbox.workspace, registry, registry.get_run(job.run.id))


def move(sandbox: Sandbox, job: Job, to: RunState) -> None:
    """As its supervisor does it."""
    gone = replace(self_identity(), start_ticks=1)
    owner = None if to in (RunState.QUEUED, RunState.STOPPED) else gone
    JobState(to, "", 0, time.time(), supervisor=owner).write(job)
    with sandbox.registry() as registry:
        registry.transition(JobKey(job.run.id), set(RunState), to, supervisor=owner)


def told(sandbox: Sandbox, job: Job) -> list[str]:
    with sandbox.registry() as registry:
        return [event.text for event in registry.events(job.run.id) if event.kind == "action"]


def test_a_run_that_stays_as_it_was_may_be_acted_on(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    move(sandbox, job, RunState.STARTING)
    seen = seen_now(sandbox, job)
    move(sandbox, job, RunState.RUNNING)  # the same to who looked
    with sandbox.registry() as registry:
        check_seen(sandbox.workspace, registry, seen)
        check_seen(sandbox.workspace, registry, None)


@pytest.mark.parametrize("change", ["state", "attempt", "supervisor", "evaluation", "removed"])
def test_what_changed_meanwhile_is_named_and_refused(sandbox: Sandbox, change: str) -> None:
    job = sandbox.add_run(nproc=1)
    move(sandbox, job, RunState.RUNNING)
    seen = seen_now(sandbox, job)
    assert seen.supervisor is not None
    if change == "state":
        move(sandbox, job, RunState.STOPPING)
    elif change == "attempt":
        seen = replace(seen, attempt=7)
    elif change == "supervisor":  # the same pid in another boot
        seen = replace(seen, supervisor=replace(seen.supervisor, boot_id="the boot before"))
    elif change == "evaluation":
        with sandbox.registry() as registry:
            registry.create_evaluation(job.run.id, 1, "test", "best")
    else:
        with sandbox.registry() as registry:
            registry.delete_run(job.run.id)
    with pytest.raises(ConflictError, match="has changed meanwhile"):
        stop_run(sandbox.workspace, job.run.id, now=True, seen=seen)
    assert StopFlag.read(job) is None


def test_remove_and_resume_look_again(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    seen = seen_now(sandbox, job)
    move(sandbox, job, RunState.STOPPED)
    with pytest.raises(ConflictError, match="it was queued in attempt 0, it is stopped"):
        remove_run(sandbox.workspace, job.run.id, seen)
    with pytest.raises(ConflictError, match="has changed meanwhile"):
        resume(sandbox.workspace, job.run.id, start_from=None, sets=(), cpu_command="", seen=seen)
    assert job.folder.is_dir()
    remove_run(sandbox.workspace, job.run.id, seen_now(sandbox, job))
    assert not job.folder.exists()
    sandbox.jobs.remove(job)


def test_a_stop_is_told_with_the_name_of_who_asked(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    stop_run(sandbox.workspace, job.run.id, now=False, seen=seen_now(sandbox, job))
    assert told(sandbox, job) == [f"stop asked by {user_name()}"]
    with pytest.raises(ConflictError, match="has ended already"):
        stop_run(sandbox.workspace, job.run.id, now=True)
    assert told(sandbox, job) == [f"stop asked by {user_name()}"]  # what did not happen


def test_the_stake_of_a_run_at_work_are_its_ranks_and_steps(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    stake = at_stake(sandbox.workspace, job.run.id)
    assert stake.jobs == (JobKey(job.run.id),)
    assert {(rank.rank, rank.pid) for rank in stake.ranks} == set(enumerate(attempt.ranks))
    assert stake.step == 6 and stake.checkpoints == (5,) and stake.lost_steps == 1
    assert stake.grace_s == 20.0
    assert all(Path(f"/proc/{rank.pid}").exists() for rank in stake.ranks)
    sandbox.release(job)
    sandbox.wait_end(job)
    after = at_stake(sandbox.workspace, job.run.id)
    assert (after.jobs, after.ranks, after.devices) == ((), (), ())


def test_the_stake_of_a_removal_counts_what_is_lost(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    move(sandbox, job, RunState.STOPPED)
    make_checkpoint(job.run.checkpoints, 5, 0.5)
    (job.run.path / "big").write_bytes(bytes(3 * 2**20))
    text = removal(at_stake(sandbox.workspace, job.run.id))
    assert text.startswith(f"{job.run.id} ({job.run.id}), stopped, {job.run.path}: 3.0 MiB")
    assert text.endswith("1 checkpoint")
