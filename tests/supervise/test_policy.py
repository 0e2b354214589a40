from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.supervise.failure import Failure
from orchestra.supervise.policy import Budget, History, decide

CRASH = Failure("rank 1 was killed by SIGKILL", retry=True)


def test_restarts_from_the_newest_checkpoint_and_says_so() -> None:
    decision = decide(CRASH, History(0, 0, 40), Budget(max_restarts=3, backoff_s=1.0))
    assert decision.restart
    assert decision.sentence == (
        "rank 1 was killed by SIGKILL; restart 1 of 3 from step 40 after 1 s"
    )


def test_back_off_doubles_without_progress_and_is_bounded() -> None:
    budget = Budget(max_restarts=100, backoff_s=1.0)
    delays = [decide(CRASH, History(before, 5, 5), budget).delay_s for before in range(8)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_gives_up_with_the_reason() -> None:
    decision = decide(CRASH, History(2, 5, 5), Budget(max_restarts=2, backoff_s=1.0))
    assert not decision.restart
    assert decision.sentence.endswith("gave up after 2 restarts without a new checkpoint")


def test_no_restart_allowed() -> None:
    decision = decide(CRASH, History(0, 0, 40), Budget(max_restarts=0, backoff_s=1.0))
    assert (decision.restart, "launch.max_restarts = 0" in decision.sentence) == (False, True)


def test_what_cannot_help_is_not_retried() -> None:
    failure = Failure("rank 0 failed with exit code 78", retry=False, remedy="correct the config")
    decision = decide(failure, History(0, 0, 40), Budget(max_restarts=9, backoff_s=1.0))
    assert not decision.restart
    assert decision.sentence.endswith("not retried: correct the config")
    told = Failure("rank 0 failed: raise it", retry=False)  # the rank said what to do
    assert (
        decide(told, History(0, 0, 40), BUDGET).sentence == "rank 0 failed: raise it; not retried"
    )


BROKEN = Failure(
    "rank 0 failed with exit code 1: KeyError: 'x'", retry=True, said="KeyError: 'x'", step=40
)
BUDGET = Budget(max_restarts=3, backoff_s=1.0)


def test_the_same_failure_twice_at_the_same_step_ends_the_run() -> None:
    before = replace(BROKEN, sentence="rank 1 failed: KeyError: 'x'")  # another rank was faster
    decision = decide(BROKEN, History(1, 30, 30, before), BUDGET)
    assert not decision.restart
    assert decision.sentence.endswith("KeyError: 'x'; failed the same way twice at the same step")


@pytest.mark.parametrize(
    ("failure", "before"),
    [
        (BROKEN, None),
        (BROKEN, replace(BROKEN, said="KeyError: 'y'")),
        (BROKEN, replace(BROKEN, step=39)),
        (CRASH, CRASH),  # a kill has no words: it may be anybody's
    ],
)
def test_other_failures_are_retried(failure: Failure, before: Failure | None) -> None:
    assert decide(failure, History(1, 30, 30, before), BUDGET).restart


@given(progress=st.lists(st.booleans(), max_size=30), max_restarts=st.integers(0, 5))
def test_never_more_restarts_in_a_row_than_allowed(progress: list[bool], max_restarts: int) -> None:
    """Any sequence of crashing attempts, some of which saved something new."""
    budget = Budget(max_restarts, backoff_s=0.0)
    failures = since_progress = 0
    for saved in progress:
        history = History(failures, 10, 20 if saved else 10)
        since_progress = 1 if saved else since_progress + 1
        decision = decide(CRASH, history, budget)
        assert decision.restart == (since_progress <= max_restarts)
        failures = history.failures
