"""A tiny corpus in S3PRL's layout of Libri2Mix: a low and a high made-up voice, at times both.

All splits have the same voices; no take of them is in two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Waveform
from orchestra.data.voices import Voice, draw_voice, say

RECORDINGS = {"train": 60, "dev": 10, "test": 16}
SECONDS = (5.0, 8.0)
LONG_S = 26.0
"""Of the first training recording: `data prepare` cuts it."""
PAIRS = 6
"""Voices of either kind."""
LOW_HZ, HIGH_HZ = (80.0, 110.0), (190.0, 260.0)
TURN_S, PAUSE_S = (0.7, 2.0), (0.2, 2.5)
NOISE = 0.005  # RMS; that of speech is 0.1


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
    voices = {
        f"{kind}{number}": draw_voice(random.Random(f"{seed}/{kind}/{number}"), pitch_hz=pitch)
        for kind, pitch in (("low", LOW_HZ), ("high", HIGH_HZ))
        for number in range(PAIRS)
    }
    for split, count in (recordings or RECORDINGS).items():
        folder = root / split
        (folder / "wav").mkdir(parents=True)
        scp, rttm = [], []
        for number in range(count):
            name = f"{split}-{number:04d}"
            rng = random.Random(f"{seed}/{name}")
            long = split == "train" and number == 0
            turns = _mix(voices, LONG_S if long else rng.uniform(*SECONDS), rng)
            samples = _sum(turns, rng)
            soundfile.write(folder / "wav" / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
            scp.append(f"{name} {split}/wav/{name}.wav\n")
            rttm += [
                f"SPEAKER {name} 1 {turn.start_s:.4f} {turn.duration_s:.4f} <NA> <NA> "
                f"{turn.speaker} <NA> <NA>\n"
                for turn in sorted(turns, key=lambda turn: turn.start_s)
            ]
        (folder / "wav.scp").write_text("".join(scp), encoding="utf-8")
        (folder / "rttm").write_text("".join(rttm), encoding="utf-8")


def _mix(voices: dict[str, Voice], seconds: float, rng: random.Random) -> list[Spoken]:
    """Turns of two speakers who don't listen to each other."""
    turns = []
    for kind in ("low", "high"):
        speaker = f"{kind}{rng.randrange(PAIRS)}"
        loudness = rng.uniform(0.7, 1.2)
        start_s = round(rng.uniform(0.0, 1.5), 2)
        while start_s < seconds - TURN_S[0]:
            length_s = round(min(rng.uniform(*TURN_S), seconds - start_s), 2)
            samples = loudness * say(voices[speaker], length_s, rng)
            turns.append(Spoken(speaker, start_s, np.asarray(samples, dtype=np.float32)))
            start_s = round(start_s + length_s + rng.uniform(*PAUSE_S), 2)
    return turns


def _sum(turns: list[Spoken], rng: random.Random) -> Waveform:
    """All turns in noise, a little silence behind the last."""
    end_s = max(turn.start_s + turn.duration_s for turn in turns) + 0.2
    noise = np.random.default_rng(rng.getrandbits(64))
    samples = NOISE * noise.standard_normal(round(end_s * SAMPLE_RATE))
    for turn in turns:
        first = round(turn.start_s * SAMPLE_RATE)
        samples[first : first + len(turn.samples)] += turn.samples
    return np.asarray(samples, dtype=np.float32)
