"""The metrics of slot filling, as SUPERB defines them. Pure functions; knows nothing of models.

After S3PRL's downstream/ctc: a slot's place in the utterance counts for none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra.tasklib.edits import Counts, align, count

from .slots import Value


@dataclass(frozen=True)
class Hits:
    """Counts of slots."""

    right: int = 0
    missed: int = 0
    wrong: int = 0

    @property
    def f1(self) -> float:
        """In percent; 100 where there is neither a slot nor a mistake."""
        if not self.right + self.missed + self.wrong:
            return 100.0
        return 100.0 * 2 * self.right / (2 * self.right + self.missed + self.wrong)

    def __add__(self, other: Hits) -> Hits:
        return Hits(self.right + other.right, self.missed + other.missed, self.wrong + other.wrong)


def type_hits(reference: Sequence[Value], hypothesis: Sequence[Value]) -> Hits:
    """Of one utterance's sets of slot types."""
    expected, said = {kind for kind, _ in reference}, {kind for kind, _ in hypothesis}
    return Hits(len(expected & said), len(expected - said), len(said - expected))


def edit_hits(reference: Sequence[Value], hypothesis: Sequence[Value]) -> Hits:
    """Of one utterance's slots, right where type and value are.

    A reference slot whose type is there with other values is one missed and one wrong; hypothesised
    slots are wrong where their type is not in the reference.
    """
    types = {kind for kind, _ in hypothesis}
    right = sum(slot in hypothesis for slot in reference)
    replaced = sum(slot not in hypothesis and slot[0] in types for slot in reference)
    expected = {kind for kind, _ in reference}
    foreign = sum(kind not in expected for kind, _ in hypothesis)
    return Hits(right, len(reference) - right, replaced + foreign)


def value_edits(reference: Sequence[Value], hypothesis: Sequence[Value], *, words: bool) -> Counts:
    """Edits of the values, in words or in characters, over the slots of the reference.

    Each is compared to the hypothesised value of its type that is nearest, to nothing without one.
    """
    total = Counts()
    for kind, value in reference:
        said = [other for other_kind, other in hypothesis if other_kind == kind] or [""]
        total += min(
            (_edits(value, other, words) for other in said), key=lambda counts: counts.errors
        )
    return total


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of a split in percent, and the counts behind them.

    Args:
        records: with `ref_slots` and `hyp_slots`, each a list of [type, value].
    """
    pairs = [(_values(record["ref_slots"]), _values(record["hyp_slots"])) for record in records]
    characters = sum((value_edits(r, h, words=False) for r, h in pairs), Counts())
    words = sum((value_edits(r, h, words=True) for r, h in pairs), Counts())
    return {
        "slot_type_f1": sum(type_hits(r, h).f1 for r, h in pairs) / max(1, len(pairs)),
        "slot_value_cer": characters.rate,
        "slot_value_wer": words.rate,
        "slot_edit_f1": sum((edit_hits(r, h) for r, h in pairs), Hits()).f1,
        "slot_characters": characters.reference,
        "slot_words": words.reference,
        "slots": sum(len(reference) for reference, _ in pairs),
        "utterances": len(pairs),
    }


def _values(slots: Sequence[Sequence[str]]) -> list[Value]:
    return [(kind, value) for kind, value in slots]


def _edits(reference: str, hypothesis: str, words: bool) -> Counts:
    if words:
        return count(align(reference.split(), hypothesis.split()))
    return count(align(reference, hypothesis))
