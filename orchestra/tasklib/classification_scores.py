"""Accuracy and macro F1, in percent, as scikit-learn has them. Pure functions; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def accuracy(labels: Sequence[Any], predicted: Sequence[Any]) -> float:
    """Share of the utterances that are told rightly; there is at least one."""
    right = sum(bool(guess == label) for label, guess in zip(labels, predicted, strict=True))
    return 100.0 * right / len(labels)


def macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 of all classes that are a label or a guess, each weighing the same."""
    right = Counter(label for label, guess in zip(labels, predicted, strict=True) if guess == label)
    # F1 of a class is 2 TP / (2 TP + FP + FN), which is 2 TP over its labels and its guesses.
    named = Counter(labels) + Counter(predicted)
    return 100.0 * sum(2 * right[name] / named[name] for name in named) / len(named)
