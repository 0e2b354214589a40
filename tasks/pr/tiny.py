"""A tiny corpus in LibriSpeech's layout, with a lexicon: words of tones, a pair for each phone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orchestra.data.audio import encode_flac
from orchestra.tasklib.tones import VOICES, spoken

from .prepare import LEXICON

WORDS: Mapping[str, str] = {
    "A": "AH0",
    "BEE": "B IY1",
    "BOAT": "B OW1 T",
    "CAT": "K AE1 T",
    "COAT": "K OW1 T",
    "DAWN": "D AO1 N",
    "DEER": "D IH1 R",
    "FISH": "F IH1 SH",
    "GOAT": "G OW1 T",
    "HOUSE": "HH AW1 S",
    "LAMP": "L AE1 M P",
    "MEADOW": "M EH1 D OW0",
    "NIGHT": "N AY1 T",
    "PAPER": "P EY1 P ER0",
    "RIVER": "R IH1 V ER0",
    "SEA": "S IY1",
    "SHOE": "SH UW1",
    "SUMMER": "S AH1 M ER0",
    "THE": "DH AH0",
    "WIND": "W IH1 N D",
}
OTHER_PRONUNCIATIONS: Mapping[str, str] = {"A": "EY1", "THE": "DH IY0", "WIND": "W AY1 N D"}
"""As the real lexicon has them: further lines for a word, never spoken here."""

UTTERANCES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "train-clean-100": (("19", "26", "27", "32", "39", "40"), 30),
    "dev-clean": (("84", "174"), 15),
    "test-clean": (("61", "121"), 25),
}
"""Speakers of each split, and utterances of each speaker."""

_PHONES = sorted({phone for phones in WORDS.values() for phone in phones.split()})


def make(root: Path, seed: int) -> None:
    """Write recordings, transcripts and the lexicon below `root`."""
    lines = [f"{word}\t{said}" for word, said in [*WORDS.items(), *OTHER_PRONUNCIATIONS.items()]]
    (root / LEXICON).write_text("\n".join(sorted(lines, key=_order)) + "\n", encoding="utf-8")
    for split, (speakers, count) in UTTERANCES.items():
        for speaker in speakers:
            chapter = root / split / speaker / f"{speaker}01"
            chapter.mkdir(parents=True, exist_ok=True)
            _write_chapter(chapter, f"{speaker}-{speaker}01", count, seed)


def _order(line: str) -> tuple[str, bool]:
    """By word; the pronunciation that is spoken first."""
    word, said = line.split("\t")
    return word, WORDS[word] != said


def _write_chapter(chapter: Path, name: str, count: int, seed: int) -> None:
    generator = np.random.default_rng([seed, *name.encode()])
    voice = generator.uniform(*VOICES)
    transcripts = []
    for number in range(count):
        words = generator.choice(list(WORDS), size=generator.integers(3, 7)).tolist()
        phones = [phone for word in words for phone in WORDS[word].split()]
        wave = spoken([_PHONES.index(phone) for phone in phones], voice, generator)
        (chapter / f"{name}-{number:04d}.flac").write_bytes(encode_flac(wave))
        transcripts.append(f"{name}-{number:04d} {' '.join(words)}\n")
    (chapter / f"{name}.trans.txt").write_text("".join(transcripts), encoding="utf-8")
