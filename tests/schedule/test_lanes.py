from __future__ import annotations

import time
from dataclasses import replace

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.lanes import read_lanes, to_json
from orchestra.wire.identity import self_identity
from orchestra.wire.job import Attempt, JobState
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import Sandbox

KEY = JobKey("one")
HOUR_S = 3600.0


@pytest.fixture
def now_s() -> float:
    return time.time()


def record(sandbox: Sandbox, *attempts: Attempt, key: JobKey = KEY) -> None:
    with sandbox.registry() as registry:
        for attempt in attempts:
            registry.start_attempt(key, attempt)
            if attempt.ended_at is not None:
                registry.end_attempt(key, attempt)


def attempt(number: int, began_at: float, ended_at: float | None, *devices: str) -> Attempt:
    state = AttemptState.RUNNING if ended_at is None else AttemptState.COMPLETED
    return Attempt(number, f"t{number}", 1, devices, began_at, state, ended_at=ended_at)


def test_attempts_by_device_in_order_of_time(sandbox: Sandbox, now_s: float) -> None:
    sandbox.add_run(run_id="one")
    first = attempt(1, now_s - 3 * HOUR_S, now_s - 2.5 * HOUR_S, "X", "Y")
    second = attempt(2, now_s - HOUR_S, now_s - 0.5 * HOUR_S, "X")
    record(sandbox, first, second)
    lanes = read_lanes(sandbox.workspace, now_s - 4 * HOUR_S, now_s)
    assert [stay.attempt for stay in lanes["X"]] == [1, 2]
    assert [stay.attempt for stay in lanes["Y"]] == [1]
    stay = lanes["X"][0]
    assert (stay.run_id, stay.name, stay.evaluation) == ("one", "one", None)
    assert (stay.began_at, stay.ended_at, stay.lives) == (first.started_at, first.ended_at, False)
    assert to_json(lanes)["Y"][0]["attempt"] == 1
    assert set(read_lanes(sandbox.workspace, now_s - 2 * HOUR_S, now_s)) == {"X"}


def test_an_ended_run_outside_the_window_is_not_even_read(sandbox: Sandbox, now_s: float) -> None:
    sandbox.add_run(run_id="one")
    record(sandbox, attempt(1, now_s - 3 * HOUR_S, now_s, "X"))
    with sandbox.registry() as registry:
        registry.transition(KEY, frozenset(RunState), RunState.COMPLETED)
        assert registry.attempts_since(time.time() + 1) == []
        assert len(registry.attempts_since(now_s)) == 1


def test_evaluations_have_their_own(sandbox: Sandbox, now_s: float) -> None:
    sandbox.add_run(run_id="one")
    with sandbox.registry() as registry:
        registry.create_evaluation("one", 1, "test", "best", state=RunState.RUNNING)
    record(sandbox, attempt(1, now_s - HOUR_S, now_s, "X"), key=JobKey("one", 1))
    (stay,) = read_lanes(sandbox.workspace, now_s - 2 * HOUR_S, now_s)["X"]
    assert stay.evaluation == 1


@pytest.mark.parametrize("alive", [True, False])
def test_one_that_lives_reaches_to_now(sandbox: Sandbox, now_s: float, alive: bool) -> None:
    job = sandbox.add_run(run_id="one")
    record(sandbox, attempt(1, now_s - HOUR_S, None, "X"))
    owner = self_identity() if alive else replace(self_identity(), start_ticks=1)
    last_word_s = now_s - 0.5 * HOUR_S
    JobState(RunState.RUNNING, "", 1, last_word_s, supervisor=owner).write(job)
    (stay,) = read_lanes(sandbox.workspace, now_s - 2 * HOUR_S, now_s)["X"]
    assert (stay.lives, stay.ended_at) == (alive, now_s if alive else last_word_s)
    JobState(RunState.QUEUED, "", 0, now_s).write(job)


def test_where_no_run_ever_was_none_is_made(sandbox: Sandbox, now_s: float) -> None:
    assert read_lanes(sandbox.workspace, 0.0, now_s) == {}
    assert not sandbox.workspace.runs.registry.exists()
