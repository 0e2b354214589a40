"""Scores of a verification system over its trials: equal error rate and minimum detection cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestra.wire.errors import DataError

Array = npt.NDArray[np.float64]

Trials = Mapping[str, Iterable[tuple[str, int]]]
"""By the id of the enrolled utterance: ids of test utterances, and whether (1) they are of the same
speaker or not (0)."""


@dataclass(frozen=True)
class ErrorRates:
    """Of a system at each threshold that makes a difference, the strictest first.

    The first threshold accepts no trial, the last all; equal scores are decided alike.
    """

    miss: Array
    """Share of the target trials that are rejected; from 1 down to 0."""
    false_alarm: Array
    """Share of the other trials that are accepted; from 0 up to 1."""


def cosine_scores(embeddings: Mapping[str, Array], trials: Trials) -> tuple[Array, Array]:
    """(scores, is target) of all trials, by cosine; that of an embedding of zeros is 0.

    Raises:
        DataError: a trial names an utterance without an embedding.
    """
    row_of = {name: row for row, name in enumerate(embeddings)}
    vectors = np.stack(list(embeddings.values()))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    scores, targets = [], []
    for enrolled, others in trials.items():
        rows = []
        for other, target in others:
            if other not in row_of:
                raise DataError(
                    f"utterance {enrolled}: a trial names {other!r}, which has no embedding; "
                    "the whole split must be predicted (without data.valid_utterances)"
                )
            rows.append(row_of[other])
            targets.append(float(target))
        scores.append(units[rows] @ units[row_of[enrolled]])
    return np.concatenate(scores), np.array(targets)


def error_rates(scores: Array, targets: Array) -> ErrorRates:
    """Of trials with these scores (higher: rather the same speaker); `targets` are 1 or 0.

    Raises:
        DataError: no target trial, or none but those.
    """
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        which = "the same speaker" if not positives else "different speakers"
        raise DataError(f"no trial is of {which}, so that no error rate is defined")
    order = np.argsort(-scores, kind="stable")
    accepted = np.cumsum(targets[order])
    # Equal scores stand or fall together: only the last of each counts.
    last = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    hits = np.insert(accepted[last], 0, 0.0)
    alarms = np.insert(last + 1 - accepted[last], 0, 0.0)
    return ErrorRates(1.0 - hits / positives, alarms / negatives)


def equal_error_rate(rates: ErrorRates) -> float:
    """Where misses and false alarms are equally frequent, in [0, 1].

    Between two thresholds the ROC curve is a straight line, as usual.
    """
    excess = rates.false_alarm - rates.miss  # rises from -1 to 1
    after = int(np.argmax(excess >= 0))
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    alarms = rates.false_alarm
    return float(alarms[after - 1] + share * (alarms[after] - alarms[after - 1]))


def minimum_cost(rates: ErrorRates, p_target: float) -> float:
    """NIST SRE's normalised minimum detection cost; miss and false alarm cost 1.

    1 is what one gets without listening. `p_target`: how likely a trial is of the same speaker.
    """
    costs = p_target * rates.miss + (1 - p_target) * rates.false_alarm
    return float(costs.min() / min(p_target, 1 - p_target))
