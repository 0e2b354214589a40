"""A tiny Speech Commands v1: its layout, with toy voices.

The speakers of the test set are in no other split; those of dev are not in train.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from orchestra.tasklib.tiny_voice import hiss, speak, write

from .prepare import NOISE, SILENCE, TEST_FOLDER, TRAIN_FOLDER, UNKNOWN, WORDS, which_split

OTHERS = ("bed", "cat", "dog")
"""Words that are no keywords."""
SPEAKERS = {"train": 10, "dev": 3, "test": 3}
NOISE_S = 12.0


def make(root: Path, seed: int) -> None:
    """Write the corpus below `root`."""
    speakers = {split: list(_speakers(seed, split)) for split in SPEAKERS}
    train, test = root / TRAIN_FOLDER, root / TEST_FOLDER
    for speaker in [*speakers["train"], *speakers["dev"]]:
        for word in (*WORDS, *OTHERS):
            name = f"{speaker}_nohash_0.wav"
            write(train / word / name, speak(seed, [word], speaker, "0"))
    for noise in ("running_tap", "white_noise"):
        write(train / NOISE / f"{noise}.wav", hiss(seed, noise, NOISE_S))
    for number, speaker in enumerate(speakers["test"]):
        name = f"{speaker}_nohash_0.wav"
        for word in WORDS:
            write(test / word / name, speak(seed, [word], speaker, "0"))
        write(test / UNKNOWN / name, speak(seed, [OTHERS[number]], speaker, "0"))
        write(test / SILENCE / f"{number}.wav", hiss(seed, f"silence {number}", 1.0))


def _speakers(seed: int, split: str) -> Iterator[str]:
    """Names, eight hexadecimal digits each, that the corpus's own rule puts into `split`."""
    names = (hashlib.sha256(f"{seed}/{n}".encode()).hexdigest()[:8] for n in range(10_000))
    return islice((name for name in names if which_split(name) == split), SPEAKERS[split])
