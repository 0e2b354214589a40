"""A tiny IEMOCAP: its layout, with toy voices whose manner is the emotion; ten speakers."""

from __future__ import annotations

import random
from pathlib import Path

from orchestra.tasklib.tiny_voice import Manner, speak, write

from .prepare import SESSIONS

TAKES = {"neu": 4, "ang": 4, "sad": 4, "hap": 2, "exc": 2, "fru": 1, "xxx": 1}
"""Utterances of each speaker by emotion; the last two are not used by the task."""
WORDS = ("hello", "world", "music", "river", "table", "seven")
WORDS_SAID = (1, 4)

_MANNERS = {
    "neu": Manner(),
    "ang": Manner(pitch=1.25, rise=-0.3, tempo=1.3, loudness=2.0, brightness=4.0),
    "sad": Manner(pitch=0.9, rise=-0.2, tempo=0.75, loudness=0.6, brightness=-4.0),
    "hap": Manner(pitch=1.3, rise=0.2, swing=0.35, tempo=1.1, loudness=1.3, brightness=1.0),
}


def make(root: Path, seed: int) -> None:
    """Write the corpus below `root`."""
    for session in SESSIONS:
        for sex in "FM":
            dialog = f"Ses{session:02d}{sex}_impro01"
            _make_dialog(root / f"Session{session}", dialog, f"Ses{session:02d}{sex}", sex, seed)


def _make_dialog(folder: Path, dialog: str, speaker: str, sex: str, seed: int) -> None:
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
    emotions = [emotion for emotion, takes in TAKES.items() for _ in range(takes)]
    for number, emotion in enumerate(emotions):
        name = f"{dialog}_{sex}{number:03d}"
        rng = random.Random(f"{seed}/{name}")
        words = rng.choices(WORDS, k=rng.randint(*WORDS_SAID))
        manner = _MANNERS.get("hap" if emotion == "exc" else emotion, Manner())
        wave = speak(seed, words, speaker, name, manner)
        write(folder / "sentences" / "wav" / dialog / f"{name}.wav", wave)
        times = f"[{10.0 * number:.4f} - {10.0 * number + len(wave) / 16_000:.4f}]"
        lines.append(f"{times}\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n")
        lines.append("C-E1:\tNeutral;\t()\n")
    ratings = folder / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
    ratings.parent.mkdir(parents=True, exist_ok=True)
    ratings.write_text("".join(lines))
