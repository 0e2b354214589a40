"""Error rates of asr: jiwer's, and right where texts are empty or badly spaced."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.asr.scoring import compare, summarise

few_words = st.lists(st.sampled_from(["A", "B", "C", "AB"]), max_size=12)


@given(references=st.lists(few_words.filter(bool), min_size=1, max_size=5), data=st.data())
def test_pooled_rates_equal_jiwers(references: list[list[str]], data: st.DataObject) -> None:
    texts = [" ".join(words) for words in references]
    said = [" ".join(data.draw(few_words)) for _ in texts]
    ours = summarise([compare(r, h) for r, h in zip(texts, said, strict=True)])
    assert ours["wer"] == pytest.approx(100 * jiwer.wer(texts, said))
    assert ours["cer"] == pytest.approx(100 * jiwer.cer(texts, said))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", (0, 0, 0, 0)),
        ("", "ONE TWO", (0, 2, 0, 0)),
        ("ONE TWO", "", (2, 0, 2, 0)),
        ("ONE  TWO", " ONE TWO ", (2, 0, 0, 0)),
        ("ONE TWO", "ONETWO", (2, 0, 1, 1)),
    ],
)
def test_empty_texts_and_spaces(
    reference: str, hypothesis: str, expected: tuple[int, int, int, int]
) -> None:
    words = compare(reference, hypothesis)["words"]
    names = ("reference", "insertions", "deletions", "substitutions")
    assert tuple(words[name] for name in names) == expected


def test_spaces_between_words_count_once_as_characters() -> None:
    characters = compare("ONE  TWO ", " ONE TWO")["characters"]
    assert characters == {"reference": 7, "insertions": 0, "deletions": 0, "substitutions": 0}


def test_record_shows_every_word() -> None:
    record = compare("THE CAT SAT", "THE DOG SAT DOWN")
    assert record["alignment"] == [["THE", "THE"], ["CAT", "DOG"], ["SAT", "SAT"], [None, "DOWN"]]


def test_summary_pools_over_the_split() -> None:
    # Mean of the utterances' rates would be 75 %; pooled it is 2 errors in 5 words.
    metrics = summarise([compare("A", "B"), compare("A B C D", "A B C"), compare("", "")])
    assert metrics["wer"] == pytest.approx(40)
    assert (metrics["words"], metrics["deletions"], metrics["substitutions"]) == (5, 1, 1)
    assert (metrics["sentence_errors"], metrics["sentences"]) == (2, 3)
    assert metrics["sentence_error_rate"] == pytest.approx(200 / 3)


def test_words_said_in_silence_are_errors() -> None:
    metrics = summarise([compare("", "NOISE")])
    assert (metrics["wer"], metrics["insertions"], metrics["words"]) == (100, 1, 0)
