"""Accuracy and macro F1 are scikit-learn's."""

from __future__ import annotations

import random
import warnings

import pytest
from sklearn.metrics import accuracy_score, f1_score

from orchestra.tasklib.classification_scores import accuracy, macro_f1


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    rng = random.Random(seed)
    classes = [f"class {number}" for number in range(rng.randint(2, 12))]
    count = rng.randint(1, 60)
    # Some classes are never a label, others never a guess.
    labels = rng.choices(classes[rng.randint(0, 1) :], k=count)
    predicted = rng.choices(classes[: rng.randint(1, len(classes))], k=count)
    assert accuracy(labels, predicted) == pytest.approx(100 * accuracy_score(labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without a guess
        expected = 100 * f1_score(labels, predicted, average="macro", zero_division=0)
    assert macro_f1(labels, predicted) == pytest.approx(expected)


def test_a_class_that_is_always_missed_lowers_macro_f1_not_accuracy_alone() -> None:
    labels, predicted = ["a"] * 9 + ["b"], ["a"] * 10
    assert accuracy(labels, predicted) == 90.0
    assert macro_f1(labels, predicted) == pytest.approx(100 * (18 / 19) / 2)
