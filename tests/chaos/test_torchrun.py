"""The real agent, which is torchrun, with stand-in ranks."""

from __future__ import annotations

import os
import signal

import pytest

from orchestra.wire.failures import read_failures
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import HERE, PACKAGE, Sandbox, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def torchrun(sandbox: Sandbox) -> Sandbox:
    sandbox.lay_out(PACKAGE / "train" / "agent.py", HERE / "standin_rank.py")
    return sandbox


def test_sigkill_of_a_rank_beside_one_in_sigstop(torchrun: Sandbox) -> None:
    """torchrun alone would give the stopped rank half a minute to react to SIGTERM."""
    job = torchrun.start(torchrun.add_run(hold=True))
    attempt = torchrun.held(job)
    os.kill(attempt.ranks[0], signal.SIGSTOP)
    os.kill(attempt.ranks[1], signal.SIGKILL)
    wait_for("the second attempt", lambda: len(torchrun.attempts(job)) == 2, 25)
    first = read_failures(job.attempt(1).failures)
    assert (first[0].rank, first[0].pid, first[0].signal) == (1, attempt.ranks[1], signal.SIGKILL)
    torchrun.release(job)
    assert torchrun.wait_end(job).state == RunState.COMPLETED
    assert not torchrun.alive(job)
    assert not (job.attempt(1).logs / "torchelastic").exists()


def test_what_a_rank_raised_is_told(torchrun: Sandbox) -> None:
    fault = {"attempt": 0, "rank": 1, "step": 3, "how": "record"}
    job = torchrun.start(torchrun.add_run(hold=True, faults=[fault]))
    state = torchrun.wait_end(job)
    assert state.state == RunState.FAILED
    assert "rank 1 failed after step" in state.reason
    assert "with exit code 65: DataError: utterance u7 is broken; not retried" in state.reason
    assert not torchrun.alive(job)


def test_sigterm_ends_the_agent_and_its_ranks(torchrun: Sandbox) -> None:
    job = torchrun.start(torchrun.add_run(hold=True, launch={"max_restarts": 0}))
    attempt = torchrun.held(job)
    assert attempt.agent is not None
    os.kill(attempt.agent.pid, signal.SIGTERM)
    assert torchrun.wait_end(job).state == RunState.FAILED
    (ended,) = torchrun.attempts(job)
    assert ended.state == AttemptState.CRASHED
    assert ended.failure is not None
    assert ended.failure["cause"] == "preempted"
    assert ended.failure["sentence"] == "torchrun was killed by SIGTERM"
    assert not torchrun.alive(job)


def test_death_chain_through_torchrun(torchrun: Sandbox) -> None:
    job = torchrun.start(torchrun.add_run(hold=True))
    torchrun.held(job)
    torchrun.kill_supervisor(job)
    wait_for("the death chain", lambda: not torchrun.alive(job))
