"""Plans of batches: complete, bounded, keyed, independent of ranks."""

from __future__ import annotations

import math
import random
from itertools import islice
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.config.schema import BatchConfig
from orchestra.data.batches import (
    Planner,
    Position,
    cut,
    deal,
    draw_subset,
    fitting,
    pack,
    padded_s,
    plan_evaluation,
)
from orchestra.wire.errors import DataError


def planner(
    durations: list[float],
    *,
    seed: int = 1,
    v: int = 4,
    budget_s: float = 10.0,
    cap_s: float | None = None,
    too_long: Literal["refuse", "isolate"] = "refuse",
) -> Planner:
    """`budget_s`: target of a micro-batch, and its cap unless that is given."""
    batch = BatchConfig(
        seconds=v * budget_s,
        max_micro_seconds=cap_s or budget_s,
        micro_batches=v,
        too_long=too_long,
    )
    return Planner(durations, [f"u{n}" for n in range(len(durations))], batch, seed=seed)


def micro_batches_of(plan: Planner, epoch: int = 0) -> list[tuple[int, ...]]:
    return [micro for step in plan.epoch(epoch) for micro in step]


def speech_like(count: int) -> list[float]:
    """Lognormal, median 12 s, sigma 0.5, at most 60 s."""
    draw = random.Random(0)
    return [min(draw.lognormvariate(math.log(12), 0.5), 60.0) for _ in range(count)]


DURATIONS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(DURATIONS, st.integers(1, 8), st.integers(0, 5), st.floats(1.0, 2.0))
def test_every_utterance_once_per_epoch_and_no_micro_batch_above_the_cap(
    durations: list[float], v: int, epoch: int, room: float
) -> None:
    if len(durations) < v:
        with pytest.raises(DataError, match="micro-batches"):
            planner(durations, v=v)
        return
    cap_s = 10.0 * room
    plan = planner(durations, v=v, cap_s=cap_s)
    micro_batches = micro_batches_of(plan, epoch)
    assert sorted(n for micro in micro_batches for n in micro) == list(range(len(durations)))
    for step in plan.epoch(epoch):
        assert v <= len(step) < 2 * v, "a rank would have nothing to do"
        assert all(step)
    assert all(padded_s(micro, durations) <= cap_s for micro in micro_batches)


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


def test_all_that_are_too_long_are_named_with_the_remedy() -> None:
    with pytest.raises(DataError) as caught:
        planner([1.0, 10.5, 2.0, 12.0])
    said = str(caught.value)
    assert said == (
        "2 utterances are longer than batch.max_micro_seconds = 10; raise it, cut them, or set "
        'batch.too_long = "isolate" to give each a micro-batch of its own: '
        "u3 (12.0 s), u1 (10.5 s)"
    )
    with pytest.raises(DataError, match=r"^15 utterances .* u2 \(11\.0 s\) and 12 more$"):
        planner([11.0] * 15)


def test_what_is_too_long_can_have_a_micro_batch_of_its_own() -> None:
    durations = [1.0] * 40
    durations[7] = durations[23] = 12.0
    plan = planner(durations, v=2, too_long="isolate")
    assert plan.too_long == (7, 23)
    micro_batches = micro_batches_of(plan)
    assert {(7,), (23,)} <= set(micro_batches)
    assert sorted(n for micro in micro_batches for n in micro) == list(range(40))
    assert all(padded_s(m, durations) <= 10 for m in micro_batches if m not in {(7,), (23,)})


def test_what_is_just_as_long_as_the_cap_is_not_too_long() -> None:
    assert planner([1.0, 10.0, 2.0, 3.0]).too_long == ()


@pytest.mark.parametrize(
    ("duration_s", "cap_s", "count"),
    [
        (6.0, 10.0, 1),  # two would be 12 s
        (6.0, 12.0, 2),  # 12 s is nearer to 10 s than 6 s is
        (8.0, 99.0, 1),  # 16 s is not
        (4.0, 12.0, 2),  # 8 s is as near as 12 s: the smaller
        (3.4, 99.0, 3),
        (15.0, 99.0, 1),
        (50.0, 20.0, 1),
        (0.1, 10.0, 100),
    ],
)
def test_a_micro_batch_comes_as_near_to_the_target_as_the_cap_allows(
    duration_s: float, cap_s: float, count: int
) -> None:
    assert fitting(duration_s, 10.0, cap_s) == count
    batches = micro_batches_of(planner([duration_s] * 8 * count, cap_s=max(cap_s, duration_s)))
    assert {len(batch) for batch in batches} == {count}


@given(st.floats(0.0, 40.0), st.floats(0.01, 30.0), st.floats(1.0, 3.0))
@settings(deadline=None)
def test_no_other_count_is_nearer_to_the_target(
    duration_s: float, target_s: float, room: float
) -> None:
    cap_s = target_s * room
    count = fitting(duration_s, target_s, cap_s)
    if count == 1 or duration_s < 1e-3:
        return
    assert count * duration_s <= cap_s
    miss_s = abs(count * duration_s - target_s)
    for other in (count - 1, count + 1):
        if other * duration_s <= cap_s:
            assert abs(other * duration_s - target_s) >= miss_s


@pytest.mark.parametrize(("room", "least_fill"), [(1.0, 0.84), (1.25, 0.98)])
def test_speech_like_lengths_waste_little_and_mix_well(room: float, least_fill: float) -> None:
    # At room 1 no plan without padding fills more than 0.8375: of 25 s two fit into 60 s.
    durations = speech_like(10_000)
    plan = planner(durations, v=8, budget_s=60.0, cap_s=60.0 * room)

    def pairs(epoch: int) -> set[frozenset[int]]:
        micro_batches = micro_batches_of(plan, epoch)
        return {frozenset((a, b)) for m in micro_batches for a in m for b in m if a != b}

    micro_batches = micro_batches_of(plan)
    padded = sum(padded_s(micro, durations) for micro in micro_batches)
    assert 1 - sum(durations) / padded <= 0.02
    assert padded / (60.0 * len(micro_batches)) >= least_fill
    assert len(pairs(0) & pairs(1)) / len(pairs(0)) < 0.10


def test_the_micro_batches_of_a_step_are_of_like_length() -> None:
    durations = speech_like(4000)
    steps = planner(durations, v=8, budget_s=60.0).epoch(0)
    longest = [[max(durations[n] for n in micro) for micro in step] for step in steps]
    uneven = sum(max(step) > 1.3 * min(step) for step in longest)
    assert uneven / len(steps) < 0.10  # the ends of the distribution, and the tail
    everything = [length for step in longest for length in step]
    assert max(everything) > 5 * min(everything)


def test_how_much_of_the_epochs_is_done() -> None:
    plan = planner([1.0 + 0.01 * n for n in range(200)])
    steps = list(islice(plan.steps(Position()), plan.steps_in(0) + 2))
    assert plan.epochs_done(Position()) == 0.0
    done = [plan.epochs_done(step.following) for step in steps]
    assert done == sorted(done)
    assert done[plan.steps_in(0) - 1] == 1.0
    assert done[0] == 1 / plan.steps_in(0)
    assert done[-1] == 1 + 2 / plan.steps_in(1)


def test_the_worst_micro_batches() -> None:
    durations = [*speech_like(500), 59.0]
    plan = planner(durations, v=2, budget_s=60.0)
    longest, largest = plan.worst(0)
    assert 500 in longest
    micro_batches = micro_batches_of(plan)
    assert longest in micro_batches and largest in micro_batches
    assert padded_s(largest, durations) == max(padded_s(m, durations) for m in micro_batches)


@given(st.integers(1, 60), st.integers(1, 70))
def test_what_is_cut_is_whole_and_even(size: int, parts: int) -> None:
    micro = tuple(range(100, 100 + size))
    pieces = cut(micro, parts)
    assert sum(pieces, ()) == micro
    assert len(pieces) == min(size, parts)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_the_worst_parts_are_those_of_what_is_cut() -> None:
    durations = [*speech_like(500), 59.0]
    plan = planner(durations, v=2, budget_s=60.0)
    longest, largest = plan.worst(0, parts=2)
    assert 500 in longest
    parts = [part for micro in micro_batches_of(plan) for part in cut(micro, 2)]
    assert padded_s(largest, durations) == max(padded_s(part, durations) for part in parts)
    assert padded_s(largest, durations) <= padded_s(plan.worst(0)[1], durations)


def test_a_drawn_subset_is_sorted_and_keyed_by_the_seed() -> None:
    drawn = draw_subset(100, 20, 1)
    assert drawn == sorted(set(drawn)) and len(drawn) == 20 and drawn[-1] < 100
    assert drawn == draw_subset(100, 20, 1) != draw_subset(100, 20, 2)
    assert draw_subset(3, 20, 1) == [0, 1, 2]


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


def test_pack_keeps_order_and_the_longest_decides() -> None:
    assert pack([0, 1, 2, 3, 4], [3, 2, 1, 4, 4]) == [(0, 1), (2,), (3, 4)]
    assert pack([], []) == []
