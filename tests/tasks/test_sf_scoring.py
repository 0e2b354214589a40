"""Slots as tokens and back, and the metrics on them: SUPERB's, equal to seqeval's and jiwer's."""

from __future__ import annotations

import warnings
from typing import Any

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from orchestra.wire.errors import DataError
from tasks.sf.scoring import edit_hits, summarise, type_hits, value_edits
from tasks.sf.slots import (
    Marked,
    Slot,
    marks,
    read_marked,
    restricted,
    to_text,
    to_tokens,
    to_values,
)

TYPES = ("artist", "city", "date", "genre")
MARKED = Marked(
    ("PLAY", "THE", "BEATLES", "IN", "ROME"), (Slot("artist", 1, 3), Slot("city", 4, 5))
)

values = st.sampled_from(["A", "AB", "B A", "ABBA B", "C", "É", "É 楽園"])
slots = st.lists(st.tuples(st.sampled_from(TYPES), values), max_size=5)


@st.composite
def marked(draw: st.DrawFn) -> Marked:
    """Words, some of them in slots that don't overlap."""
    words = draw(st.lists(st.sampled_from(["A", "BE", "SEE"]), min_size=1, max_size=8))
    edges = sorted(draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    return Marked(tuple(words), tuple(Slot(draw(st.sampled_from(TYPES)), *s) for s in spans))


def test_marks_stand_at_the_words_of_the_slot() -> None:
    assert "".join(to_tokens(MARKED)) == "PLAY <artist>THE BEATLES</artist> IN <city>ROME</city>"


@given(marked())
def test_what_is_marked_is_found_again(reference: Marked) -> None:
    tokens = to_tokens(reference)
    assert to_text(tokens) == " ".join(reference.words)
    assert to_values(tokens) == reference.values


def parsed(text: str) -> list[tuple[str, str]]:
    """Values of a text in which `[`, `]` and `{`, `}` stand for marks of a and of b."""
    names = {"[": "<a>", "]": "</a>", "{": "<b>", "}": "</b>"}
    return to_values([names.get(character, character) for character in text])


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("[X]", [("a", "X")]),
        ("[X Y] {Z}", [("a", "X Y"), ("b", "Z")]),
        ("[X", []),
        ("X]", []),
        ("[]", []),
        ("[ ] X]", [("a", "X")]),  # the first end has nothing before it
        ("[X{Y]", [("a", "XY")]),  # a mark inside is no part of the value
        ("[X}Y]Z}", [("a", "XY")]),
        ("[ [X] ]", [("a", "X")]),
        ("{X [Y] Z", [("a", "Y")]),  # a slot that never ends hides no other
        ("[X]]{Y}", [("a", "X"), ("b", "Y")]),
    ],
)
def test_any_tokens_have_slots(said: str, found: list[tuple[str, str]]) -> None:
    assert parsed(said) == found


def test_dropped_characters_move_words_and_slots() -> None:
    reference = Marked(("É", "CAFÉ", "É", "IN", "É"), (Slot("a", 0, 2), Slot("b", 2, 3)))
    assert restricted(reference, "ACFIN") == Marked(("CAF", "IN"), (Slot("a", 0, 1),))
    assert restricted(MARKED, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == MARKED


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": " ", "slots": []}, "utterance u1: its text is empty"),
        ({"text": "A B", "slots": [["a", 1]]}, r"slot \['a', 1\] is not \[type, first, end\]"),
        ({"text": "A B", "slots": [["a b", 0, 1]]}, "name without spaces"),
        ({"text": "A B", "slots": [["/a", 0, 1]]}, "leading slash"),
        ({"text": "A B", "slots": 7}, r"slot 7 is not \[type"),
        ({"text": "A B", "slots": [["a", 1, 3]]}, "within the 2 words"),
        ({"text": "A B", "slots": [["a", 1, 1]]}, r"\['a', 1, 1\]"),
        ({"text": "A B", "slots": [["a", 0, 2], ["b", 1, 2]]}, r"\['b', 1, 2\] does not lie"),
    ],
)
def test_unusable_references_name_the_utterance(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_marked(fields, "u1")


def test_without_text_or_slots_there_is_no_reference() -> None:
    assert read_marked({"text": "A"}, "u1") is None
    assert read_marked({"slots": []}, "u1") is None
    assert read_marked({"text": "A", "slots": []}, "u1") == Marked(("A",), ())


def summary(*pairs: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> dict[str, float]:
    return summarise([{"ref_slots": ref, "hyp_slots": hyp} for ref, hyp in pairs])


types = st.lists(st.sampled_from(TYPES), max_size=6)


@given(st.lists(st.tuples(types, types)))
def test_slot_type_f1_is_the_mean_of_seqevals_over_utterances(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    """Comparable where each type has a place of its own, and there is a slot at all."""
    pairs = [(expected, said) for expected, said in pairs if expected or said]
    if not pairs:
        return

    def tags(named: list[str]) -> list[str]:
        return [f"B-{kind}" if kind in named else "O" for kind in TYPES]

    with warnings.catch_warnings():  # seqeval's on utterances without a slot on one side
        warnings.simplefilter("ignore")
        theirs = [f1_score([tags(expected)], [tags(said)]) for expected, said in pairs]
    ours = summary(*(([(k, "A") for k in e], [(k, "B") for k in s]) for e, s in pairs))
    assert ours["slot_type_f1"] == pytest.approx(100 * sum(theirs) / len(theirs))


def test_types_count_once_and_values_and_order_not_at_all() -> None:
    reference = [("artist", "ABBA"), ("artist", "ENYA"), ("city", "ROME")]
    assert type_hits(reference, [("city", "X"), ("artist", "Y")]).f1 == 100
    assert type_hits(reference, [("artist", "ABBA")]).f1 == pytest.approx(100 * 2 / 3)
    assert type_hits([], []).f1 == 100
    assert type_hits([], [("city", "ROME")]).f1 == type_hits(reference, []).f1 == 0


@given(slots.filter(bool), st.data())
def test_value_error_rates_are_jiwers_on_the_nearest_values(
    reference: list[tuple[str, str]], data: st.DataObject
) -> None:
    hypothesis = data.draw(slots)
    for words, rate in ((False, jiwer.cer), (True, jiwer.wer)):
        said = []
        for kind, value in reference:
            candidates = [v for k, v in hypothesis if k == kind] or [""]
            said.append(min(candidates, key=lambda other: rate(value, other)))
        ours = value_edits(reference, hypothesis, words=words)
        assert ours.rate == pytest.approx(100 * rate([v for _, v in reference], said))


def test_values_are_pooled_and_slots_too_many_are_free() -> None:
    """As S3PRL counts: 4 characters missing and 1 wrong of 4 + 4; the city is in no reference."""
    metrics = summary(
        ([("artist", "ABBA")], [("city", "ROME")]),
        ([("artist", "ENYA")], [("artist", "ENYO"), ("artist", "X"), ("city", "ROME")]),
    )
    assert metrics["slot_value_cer"] == pytest.approx(100 * 5 / 8)
    assert metrics["slot_value_wer"] == 100
    assert (metrics["slots"], metrics["utterances"], metrics["slot_characters"]) == (2, 2, 8)


def test_edit_f1_counts_slots_with_their_values() -> None:
    reference = [("artist", "ABBA"), ("city", "ROME"), ("date", "NOW")]
    hypothesis = [("artist", "ABBA"), ("city", "BERN"), ("genre", "POP")]
    hits = edit_hits(reference, hypothesis)
    # ROME is missed and BERN wrong, NOW is missed, POP is wrong.
    assert (hits.right, hits.missed, hits.wrong) == (1, 2, 2)
    assert hits.f1 == pytest.approx(100 / 3)
    assert edit_hits(reference, reference).f1 == 100


def test_a_split_without_any_slot_has_no_error() -> None:
    metrics = summary(([], []), ([], []))
    assert (metrics["slot_type_f1"], metrics["slot_edit_f1"]) == (100, 100)
    assert metrics["slot_value_cer"] == 0


def test_marks_are_a_pair_for_each_type() -> None:
    assert marks(["a", "b"]) == ["<a>", "</a>", "<b>", "</b>"]
