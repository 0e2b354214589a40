"""Equal error rate and minimum detection cost equal scikit-learn's and SciPy's on random cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from orchestra.wire.errors import DataError
from tasks.asv.verification import (
    cosine_scores,
    equal_error_rate,
    error_rates,
    minimum_cost,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_trials(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, with ties in half of the cases, and targets of both kinds."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 60))
    targets = draw.integers(0, 2, count)
    targets[:2] = 0, 1
    scores = draw.normal(size=count) + draw.uniform(0, 3) * targets
    return (scores.round(int(draw.integers(0, 2))) if draw.random() < 0.5 else scores), targets


@given(SEEDS)
def test_the_equal_error_rate_is_that_of_the_interpolated_roc_curve(seed: int) -> None:
    scores, targets = random_trials(seed)
    false_alarm, hit, _ = roc_curve(targets, scores, drop_intermediate=False)
    # SciPy's curve is a function of the false alarms: of several points the last is its value.
    rate = brentq(lambda x: 1 - x - _curve(false_alarm, hit)(x), 0.0, 1.0, xtol=1e-13)
    ours = equal_error_rate(error_rates(scores, targets))
    assert ours == pytest.approx(rate, abs=1e-9)


def _curve(false_alarm: np.ndarray, hit: np.ndarray) -> interp1d:
    """Steps straight up are made a little oblique: a function has one value each."""
    return interp1d(false_alarm + 1e-12 * np.arange(len(hit)), hit, fill_value="extrapolate")


@given(SEEDS, st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_the_minimum_cost_is_that_over_all_thresholds(seed: int, p_target: float) -> None:
    scores, targets = random_trials(seed)
    false_alarm, hit, _ = roc_curve(targets, scores, drop_intermediate=False)
    costs = p_target * (1 - hit) + (1 - p_target) * false_alarm
    expected = costs.min() / min(p_target, 1 - p_target)
    assert minimum_cost(error_rates(scores, targets), p_target) == pytest.approx(expected)


def test_known_values() -> None:
    scores, targets = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0])
    rates = error_rates(scores, targets)
    assert equal_error_rate(rates) == 0.5
    assert minimum_cost(rates, 0.01) == pytest.approx(0.5)
    separable = error_rates(np.array([2.0, 1.0]), np.array([1, 0]))
    assert equal_error_rate(separable) == 0.0
    assert minimum_cost(separable, 0.01) == 0.0
    blind = error_rates(np.zeros(4), targets)
    assert equal_error_rate(blind) == 0.5
    assert minimum_cost(blind, 0.05) == 1.0


@pytest.mark.parametrize(("target", "said"), [(1.0, "different speakers"), (0.0, "the same")])
def test_trials_of_one_kind_have_no_error_rate(target: float, said: str) -> None:
    with pytest.raises(DataError, match=f"no trial is of {said}"):
        error_rates(np.zeros(3), np.full(3, target))


def test_scores_are_cosines_in_the_order_of_the_trials() -> None:
    embeddings = {"a": np.array([3.0, 4.0]), "b": np.array([4.0, 3.0]), "nil": np.zeros(2)}
    scores, targets = cosine_scores(embeddings, {"a": [("b", 1), ("nil", 0)], "b": [("b", 1)]})
    assert scores.tolist() == pytest.approx([0.96, 0.0, 1.0])
    assert targets.tolist() == [1, 0, 1]


def test_a_trial_of_an_unpredicted_utterance_is_named() -> None:
    with pytest.raises(DataError, match=r"utterance a: a trial names 'x'.*valid_utterances"):
        cosine_scores({"a": np.ones(2)}, {"a": [("x", 1)]})
