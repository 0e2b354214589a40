"""A tiny corpus in S3PRL's layout of Libri2Mix: a low and a high toy voice, at times both at once.

All splits have the same voices; no take of them is in two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform
from orchestra.tasklib.tiny_voice import Manner, speak, write

RECORDINGS = {"train": 60, "dev": 10, "test": 16}
SECONDS = (5.0, 8.0)
"""After so long a speaker begins no further turn."""
LONG_S = 26.0
"""The same of the first training recording, which `data prepare` cuts."""
MANNERS = {
    "low": Manner(pitch=0.6, brightness=-6.0),
    "high": Manner(pitch=1.6, brightness=6.0),
}
"""The pitches of low and high voices don't overlap."""
VOICES = 6
"""Of either kind."""
WORDS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey")
TURN_WORDS, PAUSE_S = (1, 4), (0.2, 2.5)


@dataclass(frozen=True)
class Spoken:
    """One turn of a recording."""

    speaker: str
    start_s: float
    samples: Waveform

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def make(root: Path, seed: int, recordings: dict[str, int] | None = None) -> None:
    """Write Kaldi folders with their wav files below `root`; the same seed gives the same bytes.

    `recordings`: how many each split has.
    """
    for split, count in (recordings or RECORDINGS).items():
        (root / split).mkdir(parents=True)
        scp, rttm = [], []
        for number in range(count):
            name = f"{split}-{number:04d}"
            rng = random.Random(f"{seed}/{name}")
            is_long = split == "train" and number == 0
            turns = _converse(seed, name, LONG_S if is_long else rng.uniform(*SECONDS), rng)
            write(root / split / "wav" / f"{name}.wav", _sum(turns))
            scp.append(f"{name} {split}/wav/{name}.wav\n")
            rttm += [
                f"SPEAKER {name} 1 {turn.start_s:.4f} {turn.duration_s:.4f} <NA> <NA> "
                f"{turn.speaker} <NA> <NA>\n"
                for turn in sorted(turns, key=lambda turn: turn.start_s)
            ]
        (root / split / "wav.scp").write_text("".join(scp), encoding="utf-8")
        (root / split / "rttm").write_text("".join(rttm), encoding="utf-8")


def _converse(seed: int, recording: str, seconds: float, rng: random.Random) -> list[Spoken]:
    """Turns of two speakers who don't listen to each other."""
    turns = []
    for kind, manner in MANNERS.items():
        speaker = f"{kind}{rng.randrange(VOICES)}"
        start_s = round(rng.uniform(0.0, 1.5), 2)
        while start_s < seconds:
            words = rng.choices(WORDS, k=rng.randint(*TURN_WORDS))
            take = f"{recording}/{start_s}"
            turns.append(Spoken(speaker, start_s, speak(seed, words, speaker, take, manner)))
            start_s = round(start_s + turns[-1].duration_s + rng.uniform(*PAUSE_S), 2)
    return turns


def _sum(turns: list[Spoken]) -> Waveform:
    """All turns, with a little silence behind the last."""
    end_s = max(turn.start_s + turn.duration_s for turn in turns) + 0.2
    samples = np.zeros(round(end_s * SAMPLE_RATE), dtype=np.float32)
    for turn in turns:
        first = round(turn.start_s * SAMPLE_RATE)
        samples[first : first + len(turn.samples)] += turn.samples
    return samples
