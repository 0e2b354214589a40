"""Slow is not hung: what takes longer than any deadline, and works all the same, is not killed."""

from __future__ import annotations

import os
import signal
import time

import pytest

from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.stall import StallNotice, read_stall
from orchestra.wire.states import RunState
from tests.chaos.matrix import Saw
from tests.chaos.real import RealSandbox
from tests.chaos.sandbox import Sandbox, wait_for

LONG_S = 12.0  # the slowest start of a rank must be within it, too


@pytest.mark.chaos
@pytest.mark.fault("slow disk", "long evaluation")
def test_a_slow_disk_and_a_long_evaluation(real: RealSandbox, saw: Saw) -> None:
    pauses = {"fsync_s": 2.5, "predict_s": 2.0, "score_s": LONG_S + 2.0, "other_utterances": 15}
    job = real.add_real_run(
        steps=2,
        task=pauses,
        data={"test": []},
        batch={"eval_seconds": 1.0},
        checkpoint={"every": 2},
        launch={"step_deadline_s": 2.0, "long_deadline_s": LONG_S},
    )
    assert real.wait_end(real.start(job)).state == RunState.COMPLETED
    (attempt,) = real.attempts(job)
    assert "no heartbeat" not in real.log(job)
    fsyncs = len((job.folder / "fsyncs").read_text())
    assert fsyncs * pauses["fsync_s"] > LONG_S
    saw(f"{fsyncs} fsyncs of 2.5 s each, at deadlines of 2 and {LONG_S:g} s: no kill")
    saw(
        f"batches of 2 s, {pauses['score_s']:g} s to score, at deadlines of 2 and {LONG_S:g} s: "
        "no kill",
        fault="long evaluation",
    )
    assert attempt.failure is None


@pytest.mark.fault("control: no hang detection")
def test_without_a_deadline_a_hang_lasts(sandbox: Sandbox, saw: Saw) -> None:
    """Negative control: of two runs that hang alike one is judged."""
    never = {"step_deadline_s": 1e6, "long_deadline_s": 1e6}
    lasts = sandbox.start(sandbox.add_run(hold=True, launch=never))
    sandbox.held(lasts)
    soon = {"step_deadline_s": 1.5, "long_deadline_s": 20.0}
    ends = sandbox.start(sandbox.add_run(hold=True, launch=soon))
    state = sandbox.wait_end(ends)
    assert state.state == RunState.FAILED
    assert "hung in forward at step 6: no heartbeat" in state.reason
    assert "failed the same way twice at the same step" in state.reason
    assert len(sandbox.attempts(lasts)) == 1
    assert not sandbox.attempts(lasts)[0].ended_at
    saw("it hangs on while its twin with deadlines was judged twice")
    sandbox.release(lasts)
    assert sandbox.wait_end(lasts).state == RunState.COMPLETED
    wait_for("nothing to be alive", lambda: not sandbox.alive(lasts))


@pytest.mark.chaos
def test_a_rank_that_is_stopped_is_told_with_its_countdown(sandbox: Sandbox) -> None:
    """Twice: it goes on in time and all is well; it does not, and what was foretold is done."""
    deadlines = {"step_deadline_s": 6.0, "long_deadline_s": 60.0}
    job = sandbox.start(sandbox.add_run(hold=True, beats=True, launch=deadlines))
    attempt = sandbox.held(job)
    folder = pages_folder(attempt.tag)

    def told() -> StallNotice:
        notice: StallNotice = wait_for("the notice", lambda: read_stall(folder))
        return notice

    assert read_stall(folder) is None
    os.kill(attempt.ranks[1], signal.SIGSTOP)
    notice = told()
    assert (notice.rank, notice.pid, notice.step) == (1, attempt.ranks[1], 6)
    sentence = notice.sentence(time.monotonic())
    assert sentence.startswith("rank 1 is stopped (SIGSTOP) in forward at step 6 for ")
    assert sentence.endswith(" s: restart 1 of 2 from step 5")
    assert notice.due_s - notice.since_s == pytest.approx(6.0, abs=1.0)
    os.kill(attempt.ranks[1], signal.SIGCONT)
    wait_for("the notice to go", lambda: read_stall(folder) is None)
    assert len(sandbox.attempts(job)) == 1

    os.kill(attempt.ranks[1], signal.SIGSTOP)
    told()
    wait_for("the next attempt", lambda: len(sandbox.attempts(job)) == 2)
    assert "restart 1 of 2 from step 5" in sandbox.attempts(job)[0].reason
    assert not folder.exists()
    sandbox.release(job)
    assert sandbox.wait_end(job).state == RunState.COMPLETED
