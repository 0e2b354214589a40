"""The sentences of the spoken corpus: a small English grammar, dealt to splits without overlap.

A sentence belongs to exactly one split, decided by a hash of its words, so no test sentence is
ever trained on, whatever the seed and the sizes. Pure functions of the random generator.
"""

from __future__ import annotations

import hashlib
import random

NOUNS = (
    "baker", "bird", "boat", "book", "bridge", "brother", "captain", "castle", "child", "church",
    "cloud", "coffee", "doctor", "dragon", "engine", "farmer", "fish", "flower", "forest", "fox",
    "garden", "giant", "girl", "guitar", "horse", "house", "island", "jacket", "judge", "kitchen",
    "ladder", "letter", "lion", "market", "mountain", "mouse", "nurse", "orange", "painter",
    "paper", "pocket", "queen", "rabbit", "river", "sailor", "school", "shadow", "shepherd",
    "soldier", "stone", "table", "teacher", "tower", "train", "village", "voice", "window",
    "witch", "yard", "zebra",
)  # fmt: skip
ADJECTIVES = (
    "angry", "big", "blue", "brave", "broken", "clever", "cold", "dark", "empty", "golden",
    "green", "happy", "heavy", "little", "long", "lucky", "narrow", "old", "purple", "quiet",
    "red", "small", "strange", "tall", "white", "yellow", "young",
)  # fmt: skip
VERBS = (
    "asked", "bought", "brought", "carried", "caught", "chose", "followed", "forgot", "found",
    "heard", "helped", "joined", "loved", "measured", "moved", "noticed", "painted", "pushed",
    "reached", "saw", "showed", "touched", "visited", "wanted", "washed", "watched",
)  # fmt: skip
PREPOSITIONS = (
    "above", "across", "after", "before", "behind", "beside", "from", "inside", "near", "through",
    "under", "with",
)  # fmt: skip
NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
DETERMINERS = (
    "the", "the", "the", "this", "that", "my", "our", "his", "her", "your",
)  # fmt: skip
LINKS = ("and", "but")
TIMES = ("today", "yesterday", "again", "slowly", "quickly", "at night", "every morning")
OPENINGS = ("then", "perhaps", "suddenly", "they think", "we know", "you said")

VOCABULARY = frozenset(
    word
    for phrases in (
        NOUNS, ADJECTIVES, VERBS, PREPOSITIONS, NUMBERS, DETERMINERS, LINKS, TIMES, OPENINGS,
        ("number",),
    )
    for phrase in phrases
    for word in phrase.split()
)  # fmt: skip

_SHARES = {"train-clean-100": 76, "dev-clean": 8, "test-clean": 8, "test-other": 8}
"""Percent of all possible sentences that belong to a split."""


def split_of(sentence: str) -> str:
    """The only split that may hold this sentence."""
    draw = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4], "big") % 100
    for split, share in _SHARES.items():
        draw -= share
        if draw < 0:
            return split
    raise AssertionError("the shares sum to 100")


def sentence_for(split: str, rng: random.Random) -> str:
    """A sentence of `split`, lower-case words parted by spaces."""
    while True:
        candidate = _sentence(rng)
        if split_of(candidate) == split:
            return candidate


def _sentence(rng: random.Random) -> str:
    words = [_thing(rng), rng.choice(VERBS), _thing(rng)]
    if rng.random() < 0.25:
        words.insert(0, rng.choice(OPENINGS))
    ending = rng.random()
    if ending < 0.35:
        words += [rng.choice(PREPOSITIONS), _thing(rng)]
    elif ending < 0.6:
        words.append(rng.choice(TIMES))
    elif ending < 0.7:
        words += [rng.choice(LINKS), rng.choice(VERBS), _thing(rng)]
    return " ".join(words)


def _thing(rng: random.Random) -> str:
    words = [rng.choice(DETERMINERS)]
    if rng.random() < 0.45:
        words.append(rng.choice(ADJECTIVES))
    words.append(rng.choice(NOUNS))
    if rng.random() < 0.15:
        words += ["number", rng.choice(NUMBERS)]
    return " ".join(words)
