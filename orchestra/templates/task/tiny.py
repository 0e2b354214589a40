"""Makes a tiny corpus in the layout that prepare.py reads: a short tone somewhere in noise.

For tests, for `orchestra task check newtask`, and to try the task before the real corpus is there.
Keep it small (seconds to make, a minute to learn), and alike to the real one in what can go wrong.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000
TONES_HZ = {"low": 400.0, "middle": 1000.0, "high": 2500.0}
COUNTS = {"train": 30, "dev": 8, "test": 8}
"""Recordings of each label, by split."""


def make(root: Path, seed: int) -> None:
    """Write the corpus below `root`; the same seed gives the same bytes."""
    for split, count in COUNTS.items():
        for label, hertz in TONES_HZ.items():
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = f"{split}-{label}-{number:03d}"
                draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
                soundfile.write(folder / f"{name}.wav", _tone(hertz, draw), RATE)


def _tone(hertz: float, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """(samples,) of 0.4 to 1.2 s, a quarter of which is the tone."""
    time_s = np.arange(round(draw.uniform(0.4, 1.2) * RATE)) / RATE
    begin_s = draw.uniform(0.0, 0.75) * time_s[-1]
    sounds = (time_s >= begin_s) & (time_s < begin_s + 0.25 * time_s[-1])
    tone = np.sin(2 * np.pi * hertz * draw.uniform(0.95, 1.05) * time_s) * sounds
    wave: npt.NDArray[np.float64] = 0.1 * (tone + 0.2 * draw.standard_normal(time_s.size))
    return wave
