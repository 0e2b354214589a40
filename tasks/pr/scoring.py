"""Phone error rate that can be traced to utterances. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestra.tasklib.edits import Counts, align, count


def compare(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, Any]:
    """One utterance's record: alignment and counts of phones."""
    pairs = align(reference, hypothesis)
    return {"alignment": [list(pair) for pair in pairs], "phones": asdict(count(pairs))}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pooled metrics of a split from records of `compare`; the rate in percent."""
    phones = sum((Counts(**record["phones"]) for record in records), Counts())
    return {
        "per": phones.rate,
        "insertions": phones.insertions,
        "deletions": phones.deletions,
        "substitutions": phones.substitutions,
        "phones": phones.reference,
        "utterances": len(records),
    }
