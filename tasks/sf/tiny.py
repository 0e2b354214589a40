"""A tiny corpus in the layout of Audio SNIPS: letters of tones, a few commands and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from orchestra.data import SAMPLE_RATE
from orchestra.tasklib.tones import VOICES, spoken

from .prepare import LABELS, SPEAKERS

COMMANDS: Mapping[str, str] = {
    "PlayMusic": "PLAY service",
    "PlayBy": "PLAY artist ON service",
    "AddToPlaylist": "ADD artist TO playlist",
    "GetWeather": "RAIN IN city",
    "BookRestaurant": "DINE IN city",
}
"""Words as they are said, and in lower case slots, by intent."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "artist": ("ABBA", "THE BAND", "ENYA"),
    "service": ("DEEZER", "LAST FM"),
    "playlist": ("GYM", "SAD SONGS"),
    "city": ("ROME", "NEW DELHI", "BERN"),
}

TEXTS: Mapping[str, int] = {"train": 40, "valid": 8, "test": 15}
"""Each is spoken by all speakers of its split."""

_SOUNDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def make(root: Path, seed: int) -> None:
    """Write recordings, labels and the list of slots below `root`."""
    lines = []
    for split, count in TEXTS.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng([seed, *split.encode()])
        texts = [_text(generator) for _ in range(count)]
        for speaker in sorted(SPEAKERS[split]):
            voice = generator.uniform(*VOICES)
            for number, (words, slots, intent) in enumerate(texts):
                id_ = f"{speaker}-snips-{split}-{number}"
                sounds = [_sound(letter) for letter in " ".join(words)]
                wave = spoken(sounds, voice, generator)
                soundfile.write(root / split / f"{id_}.wav", wave, SAMPLE_RATE, subtype="PCM_16")
                lines.append(f"{id_} BOS {' '.join(words)} EOS\tO {' '.join(slots)} {intent}\n")
    (root / LABELS).write_text("".join(lines), encoding="utf-8")
    (root / "slots.txt").write_text("\n".join(["O", *sorted(VALUES)]) + "\n", encoding="utf-8")


def _text(generator: np.random.Generator) -> tuple[list[str], list[str], str]:
    """Words, the slot of each, and the intent."""
    intent = str(generator.choice(list(COMMANDS)))
    words: list[str] = []
    slots: list[str] = []
    for part in COMMANDS[intent].split():
        said = str(generator.choice(VALUES[part])) if part in VALUES else part
        words += said.split()
        slots += [part if part in VALUES else "O"] * len(said.split())
    return words, slots, intent


def _sound(letter: str) -> int | None:
    return None if letter == " " else _SOUNDS.index(letter)
