from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.supervise.failure import Cause, Failure
from orchestra.supervise.policy import (
    RULES,
    Budget,
    Decision,
    History,
    Splitting,
    decide,
    foresee,
)

CRASH = Failure(Cause.SIGNAL, "rank 1 was killed by SIGKILL")
BUDGET = Budget(max_restarts=3, backoff_s=1.0)
WHOLE = Splitting()


def judge(
    failure: Failure,
    history: History,
    budget: Budget = BUDGET,
    splitting: Splitting = WHOLE,
    jitter: float = 1.0,
) -> Decision:
    return decide(failure, history, budget, splitting, jitter=jitter)


def test_the_first_restart_is_at_once_and_says_from_where() -> None:
    decision = judge(CRASH, History(0, 0, 40))
    assert (decision.restart, decision.delay_s, decision.failures) == (True, 0.0, 1)
    assert decision.action == "restart 1 of 3 from step 40 at once"
    assert decision.sentence == f"rank 1 was killed by SIGKILL; {decision.action}"


def test_the_next_ones_wait() -> None:
    decision = judge(CRASH, History(1, 40, 40), jitter=0.5)
    assert decision.sentence.endswith("restart 2 of 3 from step 40 after 0.5 s")
    assert judge(CRASH, History(1, 0, 0)).action.startswith("restart 2 of 3 from the beginning")


def test_back_off_doubles_without_progress_and_is_bounded() -> None:
    budget = Budget(max_restarts=10_000, backoff_s=1.0)
    delays = [judge(CRASH, History(before, 5, 5), budget).delay_s for before in range(9)]
    assert delays == [0, 1, 2, 4, 8, 16, 32, 40, 40]
    assert judge(CRASH, History(9_000, 5, 5), budget).delay_s == 40
    assert judge(CRASH, History(5, 5, 60), budget).delay_s == 0  # it had saved something


@given(
    failures=st.integers(0, 5000),
    jitter=st.floats(0.5, 1.5, exclude_max=True),
    backoff_s=st.floats(0, 1e6),
)
def test_back_off_grows_and_is_at_most_a_minute(
    failures: int, jitter: float, backoff_s: float
) -> None:
    budget = Budget(10_000, backoff_s)
    delays = [
        judge(CRASH, History(n, 5, 5), budget, jitter=jitter).delay_s
        for n in range(failures, failures + 3)
    ]
    assert all(earlier <= later for earlier, later in pairwise(delays))
    assert all(0 <= delay <= 60 for delay in delays)


@pytest.mark.parametrize(
    ("max_restarts", "words"),
    [
        (1, "gave up after two attempts without a new checkpoint"),
        (2, "gave up after three attempts without a new checkpoint"),
        (11, "gave up after 12 attempts without a new checkpoint"),
        (0, "no restart is allowed (launch.max_restarts = 0)"),
    ],
)
def test_gives_up_with_the_reason(max_restarts: int, words: str) -> None:
    decision = judge(CRASH, History(max_restarts, 5, 5), Budget(max_restarts, backoff_s=1.0))
    assert not decision.restart
    assert (decision.action, decision.sentence) == (words, f"{CRASH.sentence}; {words}")


def test_every_cause_has_its_rule() -> None:
    assert set(RULES) == set(Cause)
    never = {cause for cause, rule in RULES.items() if not rule.retry}
    assert never == {Cause.IMPORT, Cause.CONFIG, Cause.DATA, Cause.NAN, Cause.DISK_FULL}


@pytest.mark.parametrize("cause", list(Cause))
def test_what_cannot_help_is_not_retried(cause: Cause) -> None:
    decision = judge(Failure(cause, "it failed"), History(0, 0, 40))
    assert decision.restart == RULES[cause].retry
    if not decision.restart:
        assert decision.sentence == f"it failed; not retried: {RULES[cause].remedy}"
        told = Failure(cause, "it failed: do this", advised=True)
        assert judge(told, History(0, 0, 40)).sentence == "it failed: do this; not retried"


BROKEN = Failure(
    Cause.CRASH, "rank 0 failed with exit code 1: KeyError: 'x'", said="KeyError: 'x'", step=40
)
TWICE = "failed the same way twice at the same step: a deterministic bug or a bad sample"


def test_the_same_failure_twice_at_the_same_step_ends_the_run() -> None:
    before = replace(BROKEN, sentence="rank 1 failed: KeyError: 'x'")  # another rank was faster
    decision = judge(BROKEN, History(1, 30, 30, before))
    assert not decision.restart
    assert decision.sentence.endswith(f"KeyError: 'x'; {TWICE}")


def test_the_samples_at_work_are_named() -> None:
    def action(*samples: str) -> str:
        return judge(replace(BROKEN, samples=samples), History(1, 30, 30, BROKEN)).action

    assert action("u1", "u2") == f"{TWICE}; samples at work: u1, u2"
    many = [f"u{n}" for n in range(1, 12)]
    assert action(*many) == (f"{TWICE}; samples at work: u1, u2, u3, u4, u5, u6, u7, u8 and 3 more")


def test_a_diagnosis_says_more_than_a_spent_budget() -> None:
    decision = judge(BROKEN, History(1, 30, 30, BROKEN), Budget(1, 0.0))
    assert TWICE in decision.sentence


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
    assert judge(failure, History(1, 30, 30, before)).restart


FULL = Failure(Cause.OUT_OF_MEMORY, "out of memory", step=40)
AT_START = replace(FULL, before_steps=True)
ALONE = replace(AT_START, one_utterance=True)
MAY = Splitting(1, allowed=True)


@pytest.mark.parametrize("failure", [FULL, AT_START])
def test_memory_is_saved_by_smaller_micro_batches_where_allowed(failure: Failure) -> None:
    decision = judge(failure, History(0, 40, 40), splitting=MAY)
    assert (decision.restart, decision.split) == (True, 2)
    assert decision.sentence == (
        "out of memory; restart 1 of 3 from step 40 at once with micro-batches cut in 2, "
        "the run is no longer exact"
    )
    again = judge(failure, History(1, 40, 40, failure), splitting=replace(MAY, parts=2))
    assert (again.restart, again.split) == (True, 4)  # not the same failure: the plan is another


def test_a_split_costs_a_restart_of_the_budget() -> None:
    decision = judge(FULL, History(3, 40, 40), splitting=MAY)
    assert not decision.restart
    assert decision.action == "gave up after four attempts without a new checkpoint"


def test_out_of_memory_without_permission() -> None:
    in_step = judge(FULL, History(0, 40, 40))
    assert (in_step.restart, in_step.split) == (True, 1)
    remedy = "lower batch.max_micro_seconds or allow launch.oom_split"
    assert in_step.action.endswith(f"; if it comes again, {remedy}")
    at_start = judge(AT_START, History(0, 40, 40))
    assert at_start.sentence == f"out of memory; not retried: {remedy}"


def test_out_of_memory_in_the_smallest_parts() -> None:
    smallest = Splitting(8, allowed=True)
    assert judge(FULL, History(0, 40, 40), splitting=smallest).split == 8
    decision = judge(AT_START, History(0, 40, 40), splitting=smallest)
    assert decision.sentence == "out of memory; not retried: lower batch.max_micro_seconds"


def test_an_evaluation_has_nothing_to_cut() -> None:
    evaluation = Splitting(1, allowed=True, possible=False)
    decision = judge(AT_START, History(0, 0, 0), splitting=evaluation)
    assert (decision.restart, decision.split) == (False, 1)
    assert decision.sentence == "out of memory; not retried: lower batch.max_micro_seconds"


@pytest.mark.parametrize("failure", [ALONE, replace(ALONE, before_steps=False)])
def test_an_utterance_that_does_not_fit_is_never_tried_again(failure: Failure) -> None:
    decision = judge(failure, History(0, 40, 40), splitting=MAY)
    assert (decision.restart, decision.split) == (False, 1)
    assert "cut that utterance" in decision.action
    told = judge(replace(ALONE, advised=True), History(0, 40, 40), splitting=MAY)
    assert told.sentence == "out of memory; not retried"


@given(
    progress=st.lists(st.booleans(), max_size=30),
    max_restarts=st.integers(0, 5),
    failure=st.sampled_from([CRASH, FULL]),
)
def test_never_more_restarts_in_a_row_than_allowed(
    progress: list[bool], max_restarts: int, failure: Failure
) -> None:
    """Any sequence of failing attempts, some of which saved something new."""
    budget = Budget(max_restarts, backoff_s=0.0)
    failures = since_progress = 0
    for saved in progress:
        history = History(failures, 10, 20 if saved else 10)
        since_progress = 1 if saved else since_progress + 1
        decision = judge(failure, history, budget)
        assert decision.restart == (since_progress <= max_restarts)
        assert decision.failures == since_progress
        failures = history.failures


@given(
    failures=st.lists(st.sampled_from([CRASH, FULL, AT_START, ALONE, BROKEN]), max_size=30),
    allowed=st.booleans(),
    possible=st.booleans(),
)
def test_micro_batches_are_cut_only_where_allowed_and_never_put_together(
    failures: list[Failure], allowed: bool, possible: bool
) -> None:
    parts = 1
    for failure in failures:
        decision = judge(failure, History(0, 5, 5), splitting=Splitting(parts, allowed, possible))
        may_grow = allowed and possible and failure.cause == Cause.OUT_OF_MEMORY
        assert decision.split in ({parts, parts * 2} if may_grow else {parts})
        assert decision.split <= 8
        parts = decision.split


HANG = Failure(Cause.HANG, "", said="hang", step=7)


@pytest.mark.parametrize(
    ("history", "budget", "words"),
    [
        (History(0, 0, 40), BUDGET, "restart 1 of 3 from step 40"),
        (History(1, 0, 0), BUDGET, "restart 2 of 3 from the beginning"),
        (History(3, 5, 60), BUDGET, "restart 1 of 3 from step 60"),
        (History(3, 5, 5), BUDGET, "end: no restart is left (launch.max_restarts = 3)"),
        (History(0, 0, 0), Budget(0, 1.0), "end: no restart is left (launch.max_restarts = 0)"),
        (History(1, 5, 5, HANG), BUDGET, "end: it failed the same way at the same step before"),
    ],
)
def test_a_hang_foretold_is_what_is_done(history: History, budget: Budget, words: str) -> None:
    assert foresee(HANG, history, budget) == words
    decision = judge(HANG, history, budget)
    assert decision.restart == words.startswith("restart")
    if decision.restart:
        assert decision.action.startswith(words)
