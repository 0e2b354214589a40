"""Edit counts and alignments of token sequences: error rates that can be traced to utterances.

Pure functions; knows nothing of models. Ties between alignments of equal cost are
broken as Kaldi does (align-text, compute-wer): seen from the end, an insertion comes before a
deletion before a match or substitution, so counts agree with Kaldi's to the last edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pair = tuple[str | None, str | None]
"""(reference token, hypothesis token): (None, h) is an insertion, (r, None) a deletion."""


@dataclass(frozen=True)
class Counts:
    """Edits that turn a reference into a hypothesis, and the reference's length, in tokens."""

    reference: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Errors in percent of the reference; where that is empty, of one token."""
        return 100.0 * self.errors / max(1, self.reference)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.reference + other.reference,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
        )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """The cheapest alignment of two token sequences (insertion = deletion = substitution = 1)."""
    distances = _distances(*_encode(reference, hypothesis))
    pairs: list[Pair] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        here = distances[i, j]
        if j and here == distances[i, j - 1] + 1:
            j -= 1
            pairs.append((None, hypothesis[j]))
        elif i and here == distances[i - 1, j] + 1:
            i -= 1
            pairs.append((reference[i], None))
        else:
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
    return pairs[::-1]


def count(pairs: Iterable[Pair]) -> Counts:
    """The edits of an alignment."""
    reference = insertions = deletions = substitutions = 0
    for expected, said in pairs:
        reference += expected is not None
        insertions += expected is None
        deletions += said is None
        substitutions += expected is not None and said is not None and expected != said
    return Counts(reference, insertions, deletions, substitutions)


def _encode(
    reference: Sequence[str], hypothesis: Sequence[str]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Both sequences as integers, equal where the tokens are equal."""
    index: dict[str, int] = {}
    numbers = [
        [index.setdefault(token, len(index)) for token in tokens]
        for tokens in (reference, hypothesis)
    ]
    return np.array(numbers[0], dtype=np.int32), np.array(numbers[1], dtype=np.int32)


def _distances(
    reference: npt.NDArray[np.int32], hypothesis: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """[i, j]: edits between the first i reference and the first j hypothesis tokens."""
    columns = np.arange(len(hypothesis) + 1, dtype=np.int32)
    table = np.empty((len(reference) + 1, len(columns)), dtype=np.int32)
    table[0] = columns
    for i, token in enumerate(reference, 1):
        above, row = table[i - 1], table[i]
        row[0] = i
        np.minimum(above[:-1] + (hypothesis != token), above[1:] + 1, out=row[1:])
        # Insertions run along the row: row[j] = min over k <= j of row[k] + (j - k).
        row -= columns
        np.minimum.accumulate(row, out=row)
        row += columns
    return table
