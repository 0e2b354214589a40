from __future__ import annotations

import random

import pytest

from orchestra.data.synth import AMOUNTS
from orchestra.data.synth_espeak import locate_espeak
from orchestra.data.synth_sentences import VOCABULARY, sentence_for, split_of
from orchestra.data.synth_speech import chapters_of, plan_utterance
from orchestra.data.synth_voices import STYLES


def planned(seed: int) -> dict[str, list[list[str]]]:
    """Per split, the sentences of each utterance."""
    return {
        split: [
            list(plan_utterance(chapter, position).sentences)
            for chapter in chapters_of(seed, split, amount)
            for position in range(amount.utterances)
        ]
        for split, amount in AMOUNTS.items()
    }


def test_no_sentence_is_in_two_splits_whatever_the_seed() -> None:
    seen: dict[str, str] = {}
    for seed in range(3):
        for split, utterances in planned(seed).items():
            for sentence in (s for sentences in utterances for s in sentences):
                assert seen.setdefault(sentence, split) == split
    assert len(set(seen.values())) == 4


def test_every_word_is_trained_on_and_there_are_enough_of_them() -> None:
    for seed in range(3):
        plan = planned(seed)
        words = {
            split: {w for sentences in utterances for s in sentences for w in s.split()}
            for split, utterances in plan.items()
        }
        assert words["train-clean-100"] == VOCABULARY
        assert len(VOCABULARY) >= 120
        assert words["test-clean"] <= words["train-clean-100"]


def test_each_split_has_a_few_much_longer_utterances() -> None:
    for utterances in planned(1).values():
        lengths = sorted(len(" ".join(sentences).split()) for sentences in utterances)
        typical = lengths[len(lengths) // 2]
        long = [length for length in lengths if length > 4 * typical]
        assert 3 <= len(long) <= 0.06 * len(lengths)


def test_a_sentence_depends_on_its_generator_alone() -> None:
    assert sentence_for("dev-clean", random.Random(5)) == sentence_for(
        "dev-clean", random.Random(5)
    )
    assert split_of(sentence_for("test-other", random.Random(6))) == "test-other"


def test_no_voice_variant_is_in_two_splits() -> None:
    variants = [variant for style in STYLES.values() for variant in style.variants]
    assert len(variants) == len(set(variants))


def test_no_variant_is_one_that_never_sounds_the_same_twice() -> None:
    pytest.importorskip("espeakng_loader", reason="eSpeak NG is not installed (extra `demo`)")
    folder = locate_espeak().data / "voices" / "!v"
    for style in STYLES.values():
        for variant in style.variants:
            lines = (folder / variant).read_text(encoding="utf-8").splitlines()
            assert not [line for line in lines if line.startswith("breath ")], variant
