"""A tiny VoxCeleb1: its layout, with toy voices; the test recordings are of videos of their own."""

from __future__ import annotations

import random
from pathlib import Path

from orchestra.tasklib.tiny_voice import Manner, speak, write

from .prepare import FOLDERS, LISTS

SPEAKERS = 8
VIDEOS = {"1": 5, "2": 1, "3": 2}
"""By the list's code of the split."""
RECORDINGS = 3
"""Of each video."""
WORDS = ("hello", "world", "music", "river", "table", "seven")
WORDS_SAID = (2, 5)


def make(root: Path, seed: int) -> None:
    """Write the corpus below `root`."""
    lines = []
    for number in range(SPEAKERS):
        speaker = f"id1{number:04d}"
        folder = FOLDERS[0] if number < SPEAKERS - 2 else FOLDERS[1]
        codes = [code for code, videos in VIDEOS.items() for _ in range(videos)]
        for video, code in enumerate(codes):
            # Videos differ in how one speaks, as rooms and moods do.
            rng = random.Random(f"{seed}/{speaker}/{video}")
            manner = Manner(tempo=rng.uniform(0.9, 1.1), brightness=rng.uniform(-1.0, 1.0))
            for take in range(RECORDINGS):
                name = f"{speaker}/video{video}/{take:05d}.wav"
                words = rng.choices(WORDS, k=rng.randint(*WORDS_SAID))
                wave = speak(seed, words, speaker, f"{video}/{take}", manner)
                write(root / folder / name, wave)
                lines.append(f"{code} {name}\n")
    (root / LISTS[0]).write_text("".join(lines))
