"""Diarization error rate equals pyannote.metrics' on random cases, and known values."""

from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from tasks.sd.der import best_mapping, compare, total
from tasks.sd.turns import Turn

DURATION_S = 10.0
SEEDS = st.integers(0, 2**32 - 1)


def random_turns(draw: random.Random, names: str) -> list[Turn]:
    """Some speakers' turns, which overlap those of others but not their own; on a grid at times."""
    turns = []
    digits = draw.choice([1, 6])
    for name in names[: draw.randint(1, len(names))]:
        count = 2 * draw.randint(1, 3)
        times = sorted({round(draw.uniform(0, DURATION_S), digits) for _ in range(count)})
        turns += [(name, start, end) for start, end in zip(times[::2], times[1::2], strict=False)]
    return turns


def annotation(turns: list[Turn]) -> Annotation:
    made = Annotation()
    for number, (speaker, start, end) in enumerate(turns):
        made[Segment(start, end), number] = speaker
    return made


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.25]))
def test_errors_are_pyannotes(seed: int, collar_s: float) -> None:
    draw = random.Random(seed)
    reference, hypothesis = random_turns(draw, "ABC"), random_turns(draw, "1234")
    ours = compare(reference, hypothesis, DURATION_S, collar_s, outputs=2)
    # What pyannote calls a collar is twice as wide.
    metric = DiarizationErrorRate(collar=2 * collar_s)
    theirs = metric(
        annotation(reference),
        annotation(hypothesis),
        uem=Segment(0, DURATION_S),
        detailed=True,
    )
    assert ours.speech_s == pytest.approx(theirs["total"], abs=1e-5)
    assert ours.miss_s == pytest.approx(theirs["missed detection"], abs=1e-5)
    assert ours.false_alarm_s == pytest.approx(theirs["false alarm"], abs=1e-5)
    assert ours.confusion_s == pytest.approx(theirs["confusion"], abs=1e-5)


@given(SEEDS)
def test_the_mapping_is_the_best_of_all(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows, columns = draw.integers(1, 5, 2)
    shared = draw.uniform(size=(rows, columns)) * draw.integers(0, 2, (rows, columns))
    padded = np.zeros((5, 5))
    padded[:rows, :columns] = shared
    best = max(sum(padded[row, order[row]] for row in range(5)) for order in permutations(range(5)))
    assert best_mapping(shared) == pytest.approx(best)


def test_known_values() -> None:
    reference = [("ann", 0.0, 4.0), ("bob", 3.0, 6.0)]
    right = compare(reference, [("2", 0.0, 4.0), ("1", 3.0, 6.0)], 10.0, 0.0, 2)
    assert (right.miss_s, right.false_alarm_s, right.confusion_s) == (0, 0, 0)
    assert (right.speech_s, right.right_s, right.decided_s) == (7, 20, 20)
    one = compare(reference, [("1", 0.0, 10.0)], 10.0, 0.0, 2)
    # Mapped to ann: from 4 on it is bob's time, from 6 on nobody's, and bob goes unheard at 3.
    assert (one.miss_s, one.confusion_s, one.false_alarm_s) == (1, 2, 4)
    assert one.right_s == 20 - 3 - 6  # bob's 3 s, and 6 s of ann too many
    nothing = compare(reference, [], 10.0, 0.0, 2)
    assert (nothing.miss_s, nothing.right_s) == (7, 13)


def test_a_collar_leaves_out_both_sides_of_reference_boundaries_alone() -> None:
    reference, late = [("ann", 2.0, 4.0)], [("1", 2.2, 4.2)]
    assert compare(reference, late, 10.0, 0.0, 1).miss_s == pytest.approx(0.2)
    forgiven = compare(reference, late, 10.0, 0.25, 1)
    assert forgiven.speech_s == pytest.approx(1.5)
    assert forgiven.miss_s == forgiven.false_alarm_s == 0
    assert forgiven.decided_s == pytest.approx(9.0)


@given(SEEDS, st.sampled_from([0.0, 0.25]))
def test_a_speakers_turns_may_overlap_and_stand_in_any_order(seed: int, collar_s: float) -> None:
    """As if each stretch in which somebody speaks was one turn."""
    draw = random.Random(seed)
    turns = [turn for name in "AB" for turn in random_turns(draw, name)]
    cut = [(name, start, (start + 2 * end) / 3) for name, start, end in turns]
    cut += [(name, (2 * start + end) / 3, end) for name, start, end in turns]
    draw.shuffle(cut)
    hypothesis = random_turns(draw, "12")
    whole, pieces = (compare(each, hypothesis, DURATION_S, collar_s, 2) for each in (turns, cut))
    for name, seconds in whole.to_json().items():
        assert getattr(pieces, name) == pytest.approx(seconds, abs=1e-9)


def test_errors_add_up() -> None:
    one = compare([("a", 0.0, 1.0)], [], 2.0, 0.0, 1)
    other = compare([("a", 0.0, 1.0)], [("x", 0.0, 1.5)], 2.0, 0.0, 1)
    both = total([one, other])
    assert (both.speech_s, both.miss_s, both.false_alarm_s) == (2, 1, 0.5)
