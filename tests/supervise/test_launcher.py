"""The supervisor's end of the warm launcher: one for all attempts, another when it died."""

from __future__ import annotations

import os
import signal

from orchestra.wire.states import RunState
from tests.chaos.conftest import sandbox
from tests.chaos.sandbox import Sandbox, wait_for

__all__ = ["sandbox"]


def test_a_launcher_serves_all_attempts(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)
    before = sandbox.launchers(job)
    os.kill(attempt.ranks[0], signal.SIGKILL)
    wait_for("a restart", lambda: len(sandbox.attempts(job)) == 2)
    sandbox.held(job)
    assert sandbox.launchers(job) == before
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    wait_for("the launcher's end", lambda: not sandbox.launchers(job))


def test_a_dead_one_is_replaced_for_the_next_attempt(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)
    (before,) = sandbox.launchers(job)
    os.kill(before.pid, signal.SIGKILL)
    wait_for("a restart", lambda: len(sandbox.attempts(job)) == 2)
    sandbox.held(job)
    (after,) = sandbox.launchers(job)
    assert after != before
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
    wait_for("nothing to be alive", lambda: not sandbox.alive(job) and not sandbox.launchers(job))
    first, second = sandbox.attempts(job)
    assert second.first_step == 5
    assert first.failure is not None
    assert first.failure["cause"] == "signal"
