"""A tiny corpus in VoxCeleb1's layout: vowels in made-up voices, the test's unheard in training."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import numpy as np

from orchestra.data.audio import Waveform
from orchestra.tasklib.tiny_voice import write

from .voices import Voice, draw_voice, say

SPEAKERS = {"dev": 72, "test": 12}
VIDEOS, TAKES = 3, 2
"""Of each speaker; every video has its own noise and loudness."""
SECONDS = (1.2, 2.4)


def make(root: Path, seed: int, speakers: dict[str, int] | None = None) -> None:
    """Write wav files and veri_test2.txt, which tries all pairs of test utterances.

    The same seed gives the same bytes. `speakers`: how many dev/ and test/ have.
    """
    counts = speakers or SPEAKERS
    first = 1
    for part, count in counts.items():
        for number in range(first, first + count):
            _speak(root / part / "wav" / f"id{10000 + number}", f"{seed}/{part}/{number}")
        first += count
    paths = sorted((root / "test" / "wav").glob("*/*/*.wav"))
    names = [path.relative_to(root / "test" / "wav").as_posix() for path in paths]
    lines = [
        f"{int(one.split('/')[0] == other.split('/')[0])} {one} {other}\n"
        for one, other in combinations(names, 2)
    ]
    (root / "veri_test2.txt").write_text("".join(lines), encoding="utf-8")


def _speak(folder: Path, key: str) -> None:
    """All recordings of a speaker."""
    rng = random.Random(key)
    voice = draw_voice(rng)
    for video in range(VIDEOS):
        level, noise = rng.uniform(0.3, 1.5), rng.uniform(0.001, 0.004)
        place = folder / f"video{video:06d}"
        for take in range(1, TAKES + 1):
            samples = level * _recorded(voice, noise, rng)
            write(place / f"{take:05d}.wav", samples)


def _recorded(voice: Voice, noise: float, rng: random.Random) -> Waveform:
    """An utterance in noise of that RMS."""
    speech = say(voice, rng.uniform(*SECONDS), rng)
    background = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(speech))
    return np.asarray(speech + noise * background, dtype=np.float32)
