"""What strikes a run from outside its ranks: real ranks, one run, one thing after the other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.dispatch import dispatch
from orchestra.supervise import tree
from orchestra.wire.folders import Job
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState, RunState
from tests.chaos import holding
from tests.chaos.matrix import Saw
from tests.chaos.real import EVERY, STEP_DEADLINE_S, RealSandbox
from tests.chaos.sandbox import wait_for

LONGER_S = STEP_DEADLINE_S + 2.0
SLOWLY = {"delay_s": 0.05}


def processes(real: RealSandbox, job: Job) -> set[int]:
    """All of the run's, the supervisor apart."""
    return {process.pid for process in (*real.alive(job), *real.launchers(job))}


def ended(real: RealSandbox, job: Job, attempt: int) -> Attempt:
    """The attempt, when the next one is on record."""
    wait_for("a restart", lambda: len(real.attempts(job)) > attempt)
    return real.attempts(job)[attempt - 1]


def saved(job: Job) -> int:
    """A step that a checkpoint exists of."""
    return max(int(path.name[5:]) for path in job.run.checkpoints.glob("step-*"))


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.fault("suspended machine", "SIGKILL of the supervisor")
def test_suspended_then_without_supervisor(real: RealSandbox, saw: Saw) -> None:
    job = real.start(real.add_real_run(steps=100_000, task=SLOWLY))
    before = real.at_step(job, 2 * EVERY, attempt=1)
    everybody = [real.supervisor(job).pid, *processes(real, job)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(LONGER_S)  # what is injected: this long there is nobody at work
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    after = real.at_step(job, before[0].step + 10, attempt=1)
    assert [beat.pid for beat in before] == [beat.pid for beat in after]
    assert "no heartbeat" not in real.log(job)
    saw(f"stopped for {LONGER_S:g} s at a deadline of {STEP_DEADLINE_S:g} s; same processes go on")

    doomed = processes(real, job)
    started = time.monotonic()
    real.kill_supervisor(job)
    wait_for("the death chain", lambda: not any(Path(f"/proc/{p}/exe").exists() for p in doomed))
    took_s = time.monotonic() - started
    newest = saved(job)
    assert dispatch(real.workspace) == [JobKey(job.run.id)]
    real.at_step(job, newest + 1, attempt=2)
    first, second = real.attempts(job)
    assert (first.state, second.first_step) == (AttemptState.LOST, newest)
    saw(
        f"launcher, torchrun and ranks gone; revived from step {newest}",
        took_s,
        "SIGKILL of the supervisor",
    )


@pytest.mark.chaos
@pytest.mark.fault(
    "debugger", "SIGKILL of torchrun", "SIGKILL of the launcher", "SIGKILL of a stand-in"
)
def test_one_thing_after_the_other(real: RealSandbox, saw: Saw) -> None:
    job = real.start(real.add_real_run(steps=100_000, task=SLOWLY))
    before = real.at_step(job, 2 * EVERY, attempt=1)
    with holding.debugged(before[1].pid):
        time.sleep(LONGER_S)  # what is injected
    after = real.at_step(job, before[0].step + 10, attempt=1)
    assert [beat.pid for beat in before] == [beat.pid for beat in after]
    saw(f"held for {LONGER_S:g} s at a deadline of {STEP_DEADLINE_S:g} s; same processes go on")

    def kill(pid: int, attempt: int, fault: str, says: str) -> Attempt:
        started = time.time()
        os.kill(pid, signal.SIGKILL)
        over = ended(real, job, attempt)
        assert over.failure is not None
        assert over.ended_at is not None
        assert says in over.failure["sentence"]
        assert not tree.tagged(over.tag)
        saw(over.failure["sentence"].partition(" (")[0], over.ended_at - started, fault)
        assert over.failure["cause"] == "signal"
        newest = real.attempts(job)[attempt]
        assert newest.first_step > 0
        real.at_step(job, newest.first_step + 2 * EVERY, attempt=attempt + 1)
        return newest

    agent = real.attempts(job)[0].agent
    assert agent is not None
    kill(agent.pid, 1, "SIGKILL of torchrun", "torchrun was killed by SIGKILL")

    (launcher,) = real.launchers(job)
    kill(launcher.pid, 2, "SIGKILL of the launcher", "killed by SIGKILL")
    assert launcher not in real.launchers(job)

    ranks = {beat.pid for beat in real.beats(job)}
    newest = real.attempts(job)[-1]
    assert newest.agent is not None
    (standin, *_) = sorted({p.pid for p in tree.tagged(newest.tag)} - ranks - {newest.agent.pid})
    kill(standin, 3, "SIGKILL of a stand-in", "was killed by SIGKILL")

    real.stop(job)
    assert real.wait_end(job).state == RunState.STOPPED
    wait_for("nothing to be alive", lambda: not processes(real, job))
