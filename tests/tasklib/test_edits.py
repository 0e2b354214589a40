"""Edit counts and alignments: equal to Kaldi's for any tokens."""

from __future__ import annotations

import kaldialign
from hypothesis import given
from hypothesis import strategies as st

from orchestra.tasklib.edits import align, count

few_words = st.lists(st.sampled_from(["A", "B", "C", "AB"]), max_size=12)
GAP = "*"


@given(reference=few_words, hypothesis=few_words)
def test_counts_and_alignment_equal_kaldis(reference: list[str], hypothesis: list[str]) -> None:
    ours = align(reference, hypothesis)
    theirs = kaldialign.align(reference, hypothesis, GAP)
    assert [(r or GAP, h or GAP) for r, h in ours] == [tuple(pair) for pair in theirs]
    counts, kaldi = count(ours), kaldialign.edit_distance(reference, hypothesis)
    assert counts.insertions == kaldi["ins"]
    assert counts.deletions == kaldi["del"]
    assert counts.substitutions == kaldi["sub"]


@given(reference=few_words, hypothesis=few_words)
def test_alignment_spells_both_texts(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [r for r, _ in pairs if r is not None] == reference
    assert [h for _, h in pairs if h is not None] == hypothesis
