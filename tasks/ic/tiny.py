"""A tiny Fluent Speech Commands: its layout, with toy voices; each split has its own speakers."""

from __future__ import annotations

import csv
import random
from itertools import product
from pathlib import Path

from orchestra.tasklib.tiny_voice import speak, write

from .prepare import COLUMNS, TABLES

ACTIONS = ("activate", "deactivate", "increase")
OBJECTS = ("heat", "lights", "music")
LOCATIONS = ("none", "bedroom", "kitchen")
SPEAKERS = {"train": 10, "dev": 3, "test": 3}
POLITE = "please"
"""Said or not, so that the length tells nothing of the location."""


def make(root: Path, seed: int) -> None:
    """Write the corpus below `root`."""
    for split, table in TABLES.items():
        (root / table).parent.mkdir(parents=True, exist_ok=True)
        with (root / table).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", *COLUMNS])
            for number in range(SPEAKERS[split]):
                speaker = f"{split}{number}"
                for index, intent in enumerate(_intents(seed, speaker)):
                    path = f"wavs/speakers/{speaker}/{index:04d}.wav"
                    words = _words(intent, random.Random(f"{seed}/{path}"))
                    write(root / path, speak(seed, words, speaker, path))
                    writer.writerow([index, path, speaker, " ".join(words), *intent])


def _intents(seed: int, speaker: str) -> list[tuple[str, ...]]:
    """Two thirds of all, of this speaker's own choice."""
    every = list(product(ACTIONS, OBJECTS, LOCATIONS))
    return random.Random(f"{seed}/{speaker}").sample(every, 2 * len(every) // 3)


def _words(intent: tuple[str, ...], rng: random.Random) -> list[str]:
    said = [word for word in intent if word != "none"]
    return [*said, POLITE] if rng.random() < 0.5 else said
