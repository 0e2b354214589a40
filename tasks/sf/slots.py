"""Words with slots, as a sequence of CTC tokens and back: PLAY <artist>THE BEATLES</artist> NOW.

A token is a character or a mark, `<type>` where a slot of that type begins and `</type>` where it
ends. Marks stand at the slot's words, spaces outside. Pure functions; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra.wire.errors import DataError

Value = tuple[str, str]
"""(type, what was said)."""


@dataclass(frozen=True)
class Slot:
    """Words `first` up to, not including, `end`."""

    type: str
    first: int
    end: int


@dataclass(frozen=True)
class Marked:
    """What is said, and its slots in order; none overlap."""

    words: tuple[str, ...]
    slots: tuple[Slot, ...]

    @property
    def values(self) -> list[Value]:
        """The type and the words of each slot."""
        return [(s.type, " ".join(self.words[s.first : s.end])) for s in self.slots]


def read_marked(fields: Mapping[str, Any], utterance_id: str) -> Marked | None:
    """The reference in a manifest line: `text`, and `slots` as [[type, first, end], ...] in words.

    None without `text` or without `slots`.

    Raises:
        DataError: the text is empty, or a slot is not one, is empty, outside of the text, or
            overlaps another; the utterance and the slot are named.
    """
    if fields.get("text") is None or fields.get("slots") is None:
        return None
    words = tuple(str(fields["text"]).split())
    if not words:
        raise DataError(
            f"utterance {utterance_id}: its text is empty; correct it, or take the utterance out "
            "of the manifest"
        )
    slots = []
    entries = fields["slots"]
    for entry in entries if isinstance(entries, list) else [entries]:
        match entry:
            case [str(kind), int(first), int(end)] if kind.split() == [kind] and kind[0] != "/":
                slots.append(Slot(kind, first, end))
            case _:
                raise DataError(
                    f"utterance {utterance_id}: slot {entry!r} is not [type, first, end], a name "
                    "without spaces and a leading slash, and two numbers of words"
                )
    ends = 0
    for slot in slots:
        if not ends <= slot.first < slot.end <= len(words):
            raise DataError(
                f"utterance {utterance_id}: slot {[slot.type, slot.first, slot.end]} does not lie "
                f"behind the one before and within the {len(words)} words of the text"
            )
        ends = slot.end
    return Marked(words, tuple(slots))


def marks(types: Iterable[str]) -> list[str]:
    """The marks of slots of some types."""
    return [mark for kind in types for mark in (begin(kind), end(kind))]


def begin(kind: str) -> str:
    """The mark before the first word of a slot."""
    return f"<{kind}>"


def end(kind: str) -> str:
    """The mark behind the last word of a slot."""
    return f"</{kind}>"


def to_tokens(marked: Marked) -> list[str]:
    """Characters and marks."""
    begins = {slot.first: slot.type for slot in marked.slots}
    ends = {slot.end - 1: slot.type for slot in marked.slots}
    tokens: list[str] = []
    for number, word in enumerate(marked.words):
        tokens += [" "] if number else []
        tokens += [begin(begins[number])] if number in begins else []
        tokens += word
        tokens += [end(ends[number])] if number in ends else []
    return tokens


def to_text(tokens: Iterable[str]) -> str:
    """What was said, without marks and with one space for each run of spaces."""
    return " ".join("".join(token for token in tokens if len(token) == 1).split())


def to_values(tokens: Sequence[str]) -> list[Value]:
    """The slots of any sequence of tokens, in order.

    A slot goes from a begin mark to the next end mark of its type that has something between;
    marks inside are no part of what was said. Other marks count for nothing.
    """
    values = []
    place = 0
    while place < len(tokens):
        kind = _begun(tokens[place])
        place += 1
        if kind is None:
            continue
        for stop in range(place, len(tokens)):
            if tokens[stop] == end(kind) and (said := to_text(tokens[place:stop])):
                values.append((kind, said))
                place = stop + 1
                break
    return values


def restricted(marked: Marked, characters: Collection[str]) -> Marked:
    """Without other characters, and without words and slots of which nothing is left."""
    words: list[str] = []
    kept = [0]
    for word in marked.words:
        left = "".join(character for character in word if character in characters)
        words += [left] if left else []
        kept.append(len(words))
    slots = [Slot(slot.type, kept[slot.first], kept[slot.end]) for slot in marked.slots]
    return Marked(tuple(words), tuple(slot for slot in slots if slot.first < slot.end))


def _begun(token: str) -> str | None:
    return token[1:-1] if len(token) > 1 and not token.startswith("</") else None
