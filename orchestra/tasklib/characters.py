"""Texts as characters of a fixed set."""

from __future__ import annotations

from orchestra.wire.errors import DataError


def check_characters(text: str, characters: str, utterance_id: str) -> str:
    """The text with one space for each run of white space.

    Raises:
        DataError: a character is outside the set; the utterance and the character are named.
    """
    words = " ".join(text.split())
    unknown = sorted(set(words) - set(characters))
    if unknown:
        listed = ", ".join(repr(character) for character in unknown)
        raise DataError(
            f"utterance {utterance_id}: its transcript has {listed}, not among the "
            f"characters {characters!r}; correct it or set task.characters"
        )
    return words
