"""Plans of batches: complete, bounded, keyed, independent of ranks."""

from __future__ import annotations

import math
import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.data.batches import Planner, Position, deal, pack, plan_evaluation
from orchestra.wire.errors import DataError


def planner(
    durations: list[float], *, seed: int = 1, v: int = 4, budget_s: float = 10.0
) -> Planner:
    return Planner(
        durations,
        [f"u{n}" for n in range(len(durations))],
        seed=seed,
        seconds=v * budget_s,
        max_micro_seconds=budget_s,
        micro_batches=v,
    )


DURATIONS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(DURATIONS, st.integers(1, 8), st.integers(0, 5))
def test_every_utterance_once_per_epoch(durations: list[float], v: int, epoch: int) -> None:
    if len(durations) < v:
        with pytest.raises(DataError, match="micro-batches"):
            planner(durations, v=v)
        return
    steps = planner(durations, v=v).epoch(epoch)
    micro_batches = [micro for step in steps for micro in step]
    assert sorted(n for micro in micro_batches for n in micro) == list(range(len(durations)))
    for step in steps:
        assert v <= len(step) < 2 * v, "a rank would have nothing to do"
        assert all(step)
    for micro in micro_batches:
        assert len(micro) * max(durations[n] for n in micro) <= 10.0


@given(DURATIONS, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_resume_at_any_position_continues_the_same_steps(
    durations: list[float], epochs: int
) -> None:
    durations = durations * 4
    steps = list(islice(planner(durations).steps(Position()), 3 * epochs))
    for number, step in enumerate(steps[:-1]):
        again = planner(durations).steps(step.following)
        assert next(again) == steps[number + 1]


def test_epochs_and_seeds_differ() -> None:
    durations = [1.0 + 0.01 * n for n in range(200)]
    plan = planner(durations)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != planner(durations, seed=2).epoch(0)
    assert plan.epoch(0) == planner(durations).epoch(0)


def test_tail_of_long_utterances_merges_into_its_neighbour() -> None:
    # Nine utterances that fill a micro-batch each, four to a step: 4 + 5, not 4 + 4 + 1.
    steps = planner([9.0] * 9).epoch(0)
    assert sorted(len(step) for step in steps) == [4, 5]


def test_tail_of_short_utterances_is_shared_out() -> None:
    # 43 of 1 s are 5 micro-batches of at most 10: the fifth is split into four.
    steps = planner([1.0] * 43).epoch(0)
    assert [len(step) for step in steps] == [4, 4]


def test_too_long_utterance_is_named_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"u1 lasts 10\.5 s.*batch\.max_micro_seconds"):
        planner([1.0, 10.5, 2.0, 3.0])


def test_speech_like_lengths_waste_little_and_mix_well() -> None:
    draw = random.Random(0)
    durations = [min(draw.lognormvariate(math.log(12), 0.5), 60.0) for _ in range(10_000)]
    plan = planner(durations, v=8, budget_s=60.0)

    def micro_batches(epoch: int) -> list[tuple[int, ...]]:
        return [micro for step in plan.epoch(epoch) for micro in step]

    def pairs(epoch: int) -> set[frozenset[int]]:
        return {frozenset((a, b)) for m in micro_batches(epoch) for a in m for b in m if a != b}

    padded = sum(len(micro) * max(durations[n] for n in micro) for micro in micro_batches(0))
    assert 1 - sum(durations) / padded <= 0.02
    assert len(pairs(0) & pairs(1)) / len(pairs(0)) < 0.10


@given(DURATIONS, st.floats(0.5, 30.0), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_evaluation_deals_every_batch_once(
    durations: list[float], budget_s: float, ranks: int
) -> None:
    batches = plan_evaluation(durations, budget_s)
    assert sorted(n for batch in batches for n in batch) == list(range(len(durations)))
    assert all(
        len(batch) == 1 or len(batch) * max(durations[n] for n in batch) <= budget_s
        for batch in batches
    )
    shares = deal(batches, durations, ranks)
    assert sorted(n for share in shares for n in share) == list(range(len(batches)))


def test_evaluation_load_is_balanced() -> None:
    draw = random.Random(0)
    durations = [draw.uniform(1, 20) for _ in range(400)]
    batches = plan_evaluation(durations, 60.0)
    load = [
        sum(len(batches[n]) * durations[batches[n][0]] for n in share)
        for share in deal(batches, durations, 3)
    ]
    assert max(load) <= 1.02 * min(load)


def test_pack_keeps_order_and_isolates_what_is_over_the_budget() -> None:
    assert pack([0, 1, 2, 3], [4.0, 5.0, 50.0, 1.0], 10.0) == [(0, 1), (2,), (3,)]
