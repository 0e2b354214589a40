"""Word and character error rates that can be traced to utterances. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestra.tasklib.edits import Counts, align, count


def compare(reference: str, hypothesis: str) -> dict[str, Any]:
    """One utterance's record: word alignment, word counts, character counts.

    Words are what stands between runs of white space, so an empty text has no words and a double
    space is no token; characters are those of the words joined by single spaces.
    """
    expected, said = reference.split(), hypothesis.split()
    pairs = align(expected, said)
    characters = count(align(" ".join(expected), " ".join(said)))
    return {
        "alignment": [list(pair) for pair in pairs],
        "words": asdict(count(pairs)),
        "characters": asdict(characters),
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pooled metrics of a split from records of `compare`; rates in percent (0-100 and above)."""
    words = sum((Counts(**record["words"]) for record in records), Counts())
    characters = sum((Counts(**record["characters"]) for record in records), Counts())
    wrong = sum(Counts(**record["words"]).errors > 0 for record in records)
    return {
        "wer": words.rate,
        "cer": characters.rate,
        "sentence_error_rate": 100.0 * wrong / max(1, len(records)),
        "insertions": words.insertions,
        "deletions": words.deletions,
        "substitutions": words.substitutions,
        "words": words.reference,
        "character_errors": characters.errors,
        "characters": characters.reference,
        "sentence_errors": wrong,
        "sentences": len(records),
    }
