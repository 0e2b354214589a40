"""Diarization error rate, exact in time: no frames, overlapping speech scored, best mapping.

NIST RT-09 evaluation plan: over each stretch of time in which nobody starts or stops, missed
speakers, speakers too many, and speakers confused are counted, times its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from .turns import Turn, merged, speakers_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Seconds of a recording, or of many, summed over speakers."""

    speech_s: float
    """What the reference has in the scored time."""
    miss_s: float
    false_alarm_s: float
    confusion_s: float
    right_s: float
    """Over the scored time and the head's outputs: decided rightly, be it silence or speech."""
    decided_s: float
    """Scored time, times the number of decisions at a time."""

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def compare(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    duration_s: float,
    collar_s: float,
    outputs: int,
) -> Errors:
    """The errors of a hypothesis under the mapping of speakers that is best for it.

    Args:
        duration_s: of the recording.
        collar_s: on either side of each reference boundary, not scored.
        outputs: speakers that are decided upon; more where either side has more.
    """
    # No boundary, and so no collar, in the midst of somebody's speech.
    reference = merged(reference)
    boundaries = {time for _, start, end in reference for time in (start, end)}
    lengths, middles = _stretches(reference, hypothesis, boundaries, duration_s, collar_s)
    for boundary in boundaries if collar_s > 0 else ():
        lengths[np.abs(middles - boundary) < collar_s] = 0.0
    speaks, guessed = _activity(reference, middles), _activity(hypothesis, middles)
    spoken, said = speaks.sum(1), guessed.sum(1)
    shared_s = speaks.T @ (guessed * lengths[:, None])
    hit_s = best_mapping(shared_s)
    both_s = float(np.minimum(spoken, said) @ lengths)
    speech_s, said_s = float(spoken @ lengths), float(said @ lengths)
    decided_s = max(outputs, *shared_s.shape) * float(lengths.sum())
    return Errors(
        speech_s=speech_s,
        miss_s=float(np.maximum(spoken - said, 0) @ lengths),
        false_alarm_s=float(np.maximum(said - spoken, 0) @ lengths),
        confusion_s=max(both_s - hit_s, 0.0),  # equal but for rounding
        right_s=decided_s - (speech_s + said_s - 2 * hit_s),
        decided_s=decided_s,
    )


def best_mapping(shared_s: Array) -> float:
    """The most that a one-to-one mapping of rows to columns sums up to; exact.

    Dynamic programme over sets of columns, of which there are few: a head has up to 6 outputs.
    """
    best = {0: 0.0}
    for row in shared_s:
        grown = dict(best)
        for used, total in best.items():
            for column, seconds in enumerate(row):
                if not used & 1 << column:
                    key = used | 1 << column
                    grown[key] = max(grown.get(key, 0.0), total + float(seconds))
        best = grown
    return max(best.values())


def total(errors: Iterable[Errors]) -> Errors:
    """Summed over recordings."""
    rows = np.array([list(each.to_json().values()) for each in errors])
    return Errors(*map(float, rows.sum(0)))


def _stretches(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    boundaries: set[float],
    duration_s: float,
    collar_s: float,
) -> tuple[Array, Array]:
    """Lengths and middles of the stretches in which nothing changes, all over the recording."""
    times = {0.0, duration_s, *boundaries}
    times |= {time for _, start, end in hypothesis for time in (start, end)}
    times |= {time + side for time in boundaries for side in (-collar_s, collar_s)}
    edges = np.array(sorted(time for time in times if 0.0 <= time <= duration_s))
    return np.diff(edges), (edges[1:] + edges[:-1]) / 2


def _activity(turns: Sequence[Turn], middles: Array) -> Array:
    """(stretches, speakers): 1 where a speaker speaks."""
    names = speakers_of(list(turns))
    activity = np.zeros((len(middles), len(names)))
    for speaker, start, end in turns:
        activity[(middles > start) & (middles < end), names.index(speaker)] = 1.0
    return activity
