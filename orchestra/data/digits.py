"""Connected digits from single recordings named `{digit}_{speaker}_{take}.wav`.

Two to eight takes of one speaker are joined with short pauses. The joins are artificial: nobody
spoke them in one breath, and a result on them says so. No take is in two splits.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestra.data import SAMPLE_RATE, program
from orchestra.data.audio import Waveform, encode_flac, read_audio
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, headers_of, read_headers
from orchestra.wire.errors import DataError, NotFoundError
from orchestra.wire.manifest import Utterance

VERSION = 1
"""Raise it whenever the same recordings give other joins."""

WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
JOINS: Mapping[str, int] = {"train": 1600, "dev": 120, "test": 200}
"""How many joins each split gets, dealt to the speakers in turn."""

DIGITS_PER_JOIN = (2, 8)
PAUSE_S = (0.05, 0.25)
HELD_OUT = 0.11
"""Part of each speaker's takes, the lowest ones, that is for test; as many more are for dev."""

_PAUSE_NOISE = 1e-4
"""Amplitude of the noise between takes: digital silence never comes from a microphone."""

_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)\.wav")


@dataclass(frozen=True)
class Take:
    """One recording of one digit."""

    path: Path
    digit: int
    speaker: str
    number: int


@dataclass(frozen=True)
class Join:
    """Takes of one speaker, and the pause after each but the last."""

    id: str
    takes: tuple[Take, ...]
    pauses_s: tuple[float, ...]

    @property
    def text(self) -> str:
        return " ".join(WORDS[take.digit] for take in self.takes)


def find_takes(root: Path) -> list[Take]:
    """All recordings in `root/recordings`, or in `root` itself, sorted.

    Raises:
        NotFoundError: there are none.
    """
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    takes = []
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.name)
        if match:
            takes.append(Take(path, int(match[1]), match[2], int(match[3])))
        else:
            program.say(f"{path}: left out, its name is not {{digit}}_{{speaker}}_{{take}}.wav")
    if not takes:
        raise NotFoundError(f"no recordings named {{digit}}_{{speaker}}_{{take}}.wav in {folder}")
    return takes


def unreadable_takes(takes: Sequence[Take]) -> list[Problem]:
    """A problem for each recording whose header can't be read."""
    _, problems = read_headers([take.path for take in takes])
    return problems


def deal_takes(takes: Sequence[Take]) -> dict[str, list[Take]]:
    """The takes of each split: per speaker the lowest take numbers to test, the next to dev.

    Raises:
        DataError: a speaker has fewer than three take numbers.
    """
    dealt: dict[str, list[Take]] = {"train": [], "dev": [], "test": []}
    for speaker in sorted({take.speaker for take in takes}):
        own = [take for take in takes if take.speaker == speaker]
        numbers = sorted({take.number for take in own})
        if len(numbers) < 3:
            raise DataError(
                f"speaker {speaker!r} has {len(numbers)} takes; three are needed, "
                "one each for test, dev and train"
            )
        held_out = max(1, round(HELD_OUT * len(numbers)))
        test, dev = set(numbers[:held_out]), set(numbers[held_out : 2 * held_out])
        for take in own:
            split = "test" if take.number in test else "dev" if take.number in dev else "train"
            dealt[split].append(take)
    return dealt


def label_takes(root: Path, out: Path, label: Callable[[Take], str]) -> Prepared:
    """Manifests in `out` of the single takes, each with its label; dealt as those of joins.

    Raises:
        NotFoundError: there are no recordings.
        DataError: a speaker has too few takes.
    """
    takes = find_takes(root)
    headers, problems = read_headers([take.path for take in takes])
    splits = {
        split: [
            {
                "id": take.path.stem,
                "path": os.path.relpath(take.path, out),
                "offset_s": 0.0,
                "duration_s": headers[take.path].duration_s,
                "label": label(take),
            }
            for take in dealt
            if take.path in headers
        ]
        for split, dealt in deal_takes(takes).items()
    }
    return Prepared(splits, problems)


def plan_joins(split: str, takes: Sequence[Take], count: int) -> list[Join]:
    """`count` joins, each from (split, its index) alone and the takes there are."""
    by_speaker: dict[str, dict[int, list[Take]]] = {}
    for take in takes:
        by_speaker.setdefault(take.speaker, {}).setdefault(take.digit, []).append(take)
    speakers = sorted(by_speaker)
    joins = []
    for index in range(count):
        rng = random.Random(f"digits/{VERSION}/{split}/{index}")
        speaker = speakers[index % len(speakers)]
        digits = by_speaker[speaker]
        length = rng.randint(*DIGITS_PER_JOIN)
        chosen = tuple(rng.choice(digits[rng.choice(sorted(digits))]) for _ in range(length))
        pauses = tuple(rng.uniform(*PAUSE_S) for _ in range(length - 1))
        joins.append(Join(f"{speaker}-{split}-{index:04d}", chosen, pauses))
    return joins


def write_joins(
    joins: Sequence[Join], waveforms: Mapping[Path, Waveform], folder: Path, path_prefix: str
) -> list[dict[str, Any]]:
    """Write `<folder>/<id>.flac` for each join; returns the manifest lines."""
    folder.mkdir(parents=True)

    def write(join: Join) -> dict[str, Any]:
        samples = _joined(join, waveforms)
        (folder / f"{join.id}.flac").write_bytes(encode_flac(samples))
        return {
            "id": join.id,
            "path": f"{path_prefix}/{join.id}.flac",
            "offset_s": 0.0,
            "duration_s": len(samples) / SAMPLE_RATE,
            "text": join.text,
            "speaker": join.takes[0].speaker,
            "takes": [take.path.name for take in join.takes],
        }

    return list(program.in_threads(write, joins))


def read_takes(takes: Sequence[Take]) -> dict[Path, Waveform]:
    """Every recording, at 16 kHz mono.

    Raises:
        DataError: one can't be decoded.
    """
    headers, _ = headers_of([take.path for take in takes])
    return {
        path: read_audio(Utterance(path.stem, path, 0.0, header.duration_s, {}))
        for path, header in headers.items()
    }


def _joined(join: Join, waveforms: Mapping[Path, Waveform]) -> Waveform:
    seed = int.from_bytes(random.Random(join.id).randbytes(8), "big")
    noise = np.random.default_rng(seed)
    pieces = []
    for take, pause_s in zip(join.takes, (*join.pauses_s, 0.0), strict=True):
        pause = noise.standard_normal(round(pause_s * SAMPLE_RATE), dtype=np.float32)
        pieces += [waveforms[take.path], pause * np.float32(_PAUSE_NOISE)]
    return np.concatenate(pieces)
