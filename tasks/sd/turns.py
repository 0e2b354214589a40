"""Turns, who speaks from when to when: of decisions by frame, and of manifests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestra.data import SAMPLE_RATE
from orchestra.wire.errors import DataError
from orchestra.wire.manifest import Utterance

Turn = tuple[str, float, float]
"""Speaker, start and end in seconds from the beginning of the recording."""


def turns_of(utterance: Utterance) -> list[Turn] | None:
    """The manifest's `turns`, None if it has none.

    Raises:
        DataError: they are no list of [speaker, start_s, end_s] within the recording.
    """
    rows = utterance.fields.get("turns")
    if rows is None:
        return None
    turns = []
    for row in rows if isinstance(rows, list) else [rows]:
        turn = _turn(row)
        if turn is None or not 0 <= turn[1] < turn[2] <= utterance.duration_s + 1e-3:
            raise DataError(
                f"utterance {utterance.id}: {row!r} is no turn [speaker, start_s, end_s] within "
                f"its {utterance.duration_s:.3f} s; prepare the manifests again"
            )
        turns.append(turn)
    return turns


def _turn(row: Any) -> Turn | None:
    try:
        speaker, start_s, end_s = row
        turn = (str(speaker), float(start_s), float(end_s))
    except (TypeError, ValueError):
        return None
    return turn if all(map(math.isfinite, turn[1:])) else None


def speakers_of(turns: list[Turn]) -> list[str]:
    """Sorted, each once."""
    return sorted({speaker for speaker, _, _ in turns})


def merged(turns: Sequence[Turn]) -> list[Turn]:
    """By speaker and start; those of one speaker that overlap made one, as dscore does it."""
    found: list[Turn] = []
    for speaker, start, end in sorted(turns):
        if found and found[-1][0] == speaker and start < found[-1][2]:
            found[-1] = (speaker, found[-1][1], max(found[-1][2], end))
        else:
            found.append((speaker, start, end))
    return found


def median_filter(active: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """The median over `width` (odd) frames around each; silence is assumed beyond the ends.

    active (frames, speakers).
    """
    half = width // 2
    padded = np.pad(active.astype(np.int64), ((half + 1, half), (0, 0)))
    sums = padded.cumsum(0)
    return np.asarray(sums[width:] - sums[:-width] > half)


def turns_from_frames(
    active: npt.NDArray[np.bool_], stride: int, samples: int
) -> list[tuple[str, float, float]]:
    """Turns of speakers "1", "2" ... by start, from decisions (frames, speakers).

    The last frame lasts to the recording's end, since upstreams give no frame for its last samples.

    Args:
        stride: samples of a frame.
        samples: of the recording.
    """
    edges = np.arange(len(active) + 1) * stride
    edges[-1] = samples
    turns = []
    for number, speaks in enumerate(active.T, 1):
        changes = np.diff(np.pad(speaks.astype(np.int64), 1))
        starts, ends = np.nonzero(changes == 1)[0], np.nonzero(changes == -1)[0]
        turns += [
            (str(number), edges[start] / SAMPLE_RATE, edges[end] / SAMPLE_RATE)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    return sorted(turns, key=lambda turn: (turn[1], turn[0]))
