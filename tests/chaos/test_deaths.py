"""SIGKILL of anything in mid-run: the run completes, nothing is left, the state is true."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.matrix import Saw
from tests.chaos.sandbox import Sandbox, wait_for


def test_run_without_faults(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run())
    state = sandbox.wait_end(job)
    assert (state.state, state.reason, state.supervisor) == (RunState.COMPLETED, "", None)
    assert [attempt.state for attempt in sandbox.attempts(job)] == [AttemptState.COMPLETED]
    assert not sandbox.alive(job)
    with sandbox.registry() as registry:
        row = registry.get_run(job.run.id)
        assert (row.step, row.max_steps, row.state) == (12, 12, RunState.COMPLETED)
        assert (row.loss, row.metric, row.best_score) == (1 / 12, "m", 10.0)
        assert [item.step for item in registry.checkpoints(job.run.id)] == [5, 10]
        assert len(registry.attempts(JobKey(job.run.id))[0].ranks) == 2


@pytest.mark.fault("SIGKILL of a rank")
def test_sigkill_of_a_rank(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    os.kill(attempt.ranks[1], signal.SIGKILL)
    wait_for("the second attempt", lambda: len(sandbox.attempts(job)) == 2)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    first, second = sandbox.attempts(job)
    assert first.state == AttemptState.CRASHED
    assert first.reason.startswith("rank 1 was killed by SIGKILL after step 6")
    assert "restart 1 of 2 from step 5" in first.reason
    assert second.first_step == 5
    assert not sandbox.alive(job)
    assert not pages_folder(first.tag).exists()


@pytest.mark.fault("SIGKILL of torchrun")
def test_sigkill_of_the_agent(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    assert attempt.agent is not None
    os.kill(attempt.agent.pid, signal.SIGKILL)
    wait_for("the second attempt", lambda: len(sandbox.attempts(job)) == 2)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert "torchrun was killed by SIGKILL" in sandbox.attempts(job)[0].reason
    assert not sandbox.alive(job)


@pytest.mark.fault("SIGKILL of the supervisor")
def test_sigkill_of_the_supervisor(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    assert dispatch(sandbox.workspace) == []  # it is alive: nobody else may start
    sandbox.kill_supervisor(job)
    wait_for("the death chain", lambda: not sandbox.alive(job))
    sandbox.release(job)
    assert dispatch(sandbox.workspace) == [JobKey(job.run.id)]
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    first, second = sandbox.attempts(job)
    assert (first.state, second.state) == (AttemptState.LOST, AttemptState.COMPLETED)
    assert (first.last_step, second.first_step) == (6, 5)
    assert not sandbox.alive(job)


def test_result_that_a_dead_supervisor_did_not_see_counts(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    assert attempt.agent is not None
    os.kill(sandbox.supervisor(job).pid, signal.SIGSTOP)
    sandbox.release(job)
    agent = attempt.agent
    wait_for("the ranks' end", lambda: not agent.is_alive())
    sandbox.kill_supervisor(job)
    dispatch(sandbox.workspace)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert len(sandbox.attempts(job)) == 1
    with sandbox.registry() as registry:
        assert registry.get_run(job.run.id).step == 12


@pytest.mark.fault("control: no death chain")
def test_without_the_death_chain_a_rank_survives(sandbox: Sandbox) -> None:
    """Negative control: and what survived is swept by the next supervisor."""
    job = sandbox.start(sandbox.add_run(hold=True, armed=False))
    attempt = sandbox.held(job)
    sandbox.kill_supervisor(job)
    assert attempt.agent is not None
    agent = attempt.agent
    wait_for("the agent's death", lambda: not agent.is_alive())
    assert {process.pid for process in sandbox.alive(job)} == set(attempt.ranks)
    sandbox.release(job)
    dispatch(sandbox.workspace)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert not sandbox.alive(job)


def test_stopped_rank_is_killed(sandbox: Sandbox) -> None:
    """A rank in SIGSTOP does not react to torchrun's SIGTERM."""
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    os.kill(attempt.ranks[0], signal.SIGSTOP)
    os.kill(attempt.ranks[1], signal.SIGKILL)
    wait_for("the second attempt", lambda: len(sandbox.attempts(job)) == 2)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert sandbox.attempts(job)[0].reason.startswith("rank 1 was killed by SIGKILL")
    assert not sandbox.alive(job)


@pytest.mark.fault("escaped child")
def test_escaped_grandchild_is_swept(sandbox: Sandbox) -> None:
    fault = {"attempt": 1, "rank": 1, "step": 3, "how": "escape"}
    job = sandbox.start(sandbox.add_run(hold=True, faults=[fault]))
    attempt = sandbox.held(job)
    # The agent, two ranks, and the one with another session and parent.
    assert attempt.agent is not None
    escaped = {process.pid for process in sandbox.alive(job)}
    assert len(escaped - {attempt.agent.pid, *attempt.ranks}) == 1
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    assert not sandbox.alive(job)


@pytest.mark.fault("escaped child, no environment")
def test_who_escapes_without_environment_is_not_found(sandbox: Sandbox, saw: Saw) -> None:
    """A known limit: it carries no tag. It is the supervisor's child then, and nobody kills it."""
    fault = {"attempt": 1, "rank": 1, "step": 3, "how": "escape_bare"}
    job = sandbox.start(sandbox.add_run(hold=True, faults=[fault]))
    sandbox.held(job)
    pid = int((job.folder / "escaped").read_text())
    escaped = ProcessIdentity.of(pid)
    assert escaped is not None
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"PPid:\t{sandbox.supervisor(job).pid}\n" in status
        sandbox.release(job)
        assert sandbox.wait_end(job).state == RunState.COMPLETED
        assert escaped.is_alive()
        saw("a child of the supervisor; still alive when the job was completed")
    finally:
        if escaped.is_alive():
            os.kill(pid, signal.SIGKILL)


def test_the_attempt_on_record_starts_where_its_ranks_did(sandbox: Sandbox) -> None:
    """They found the newest checkpoint bad, and the one before good."""
    job = sandbox.add_run(starts_at=3)
    job.run.checkpoint(5).mkdir(parents=True)
    assert sandbox.wait_end(sandbox.start(job)).state == RunState.COMPLETED
    (attempt,) = sandbox.attempts(job)
    assert (attempt.first_step, attempt.last_step) == (3, 12)
