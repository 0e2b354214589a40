"""A launcher or an agent that lives and does nothing: the job ends all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestra.supervise.stop import stop_job
from orchestra.wire.folders import Job
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.matrix import Saw
from tests.chaos.sandbox import HERE, Sandbox, wait_for
from tests.chaos.test_endings import key

NEVER_READY = """
def preload(job):
    import time
    time.sleep(600)
"""


@pytest.fixture
def never_ready(sandbox: Sandbox, tmp_path: Path) -> Sandbox:
    """Its launcher hangs while it imports: a file system that does not answer."""
    agent = tmp_path / "agent.py"
    agent.write_text((HERE / "standin_agent.py").read_text() + NEVER_READY)
    sandbox.lay_out(agent, HERE / "standin_rank.py")
    return sandbox


def gone(sandbox: Sandbox, job: Job) -> None:
    wait_for("nothing to be alive", lambda: not sandbox.alive(job) and not sandbox.launchers(job))


@pytest.mark.chaos
@pytest.mark.fault("launcher hangs while it imports")
def test_a_launcher_that_is_never_ready(never_ready: Sandbox, saw: Saw) -> None:
    job = never_ready.add_run(launch={"long_deadline_s": 1.0})
    state = never_ready.wait_end(never_ready.start(job))
    assert state.state == RunState.FAILED
    assert state.reason.startswith("rank 0 never started: no heartbeat for")
    assert len(never_ready.attempts(job)) == 2
    gone(never_ready, job)
    saw("hang: rank 0 never started; tried twice, ended, nothing left")


def test_stop_now_does_not_wait_for_a_launcher(never_ready: Sandbox) -> None:
    job = never_ready.start(never_ready.add_run())
    wait_for("a launcher", lambda: never_ready.launchers(job))
    stop_job(never_ready.workspace, key(job), now=True)
    assert never_ready.wait_end(job).state == RunState.STOPPED
    gone(never_ready, job)


@pytest.mark.chaos
@pytest.mark.fault("SIGSTOP of torchrun")
def test_a_stopped_torchrun_does_not_keep_a_run_from_its_end(sandbox: Sandbox, saw: Saw) -> None:
    completed_without(sandbox, lambda launcher, agent: agent)
    saw("the ranks' result counts; completed")


@pytest.mark.chaos
@pytest.mark.fault("SIGSTOP of the launcher")
def test_nor_does_a_stopped_launcher(sandbox: Sandbox, saw: Saw) -> None:
    completed_without(sandbox, lambda launcher, agent: launcher)
    saw("the ranks' result counts; completed")


def completed_without(sandbox: Sandbox, who: Callable[[int, int], int]) -> None:
    """A run comes to its end though that process is stopped."""
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    assert attempt.agent is not None
    (launcher,) = sandbox.launchers(job)
    os.kill(who(launcher.pid, attempt.agent.pid), signal.SIGSTOP)
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    (ended,) = sandbox.attempts(job)
    assert ended.state == AttemptState.COMPLETED
    gone(sandbox, job)
