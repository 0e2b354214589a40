"""Read the files of a Kaldi folder that tell who speaks when; nothing in them is ever run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestra.data.problems import Problem, read_lines

_RTTM_FIELDS = 8
"""Up to the speaker's name; two more may follow."""


@dataclass(frozen=True)
class SourcedTurn:
    """Somebody speaks from when to when, in seconds."""

    recording: str
    speaker: str
    start_s: float
    end_s: float
    source: str  # "<file>, line <number>"


@dataclass(frozen=True)
class _Line:
    words: list[str]
    text: str
    source: str


def read_wav_scp(path: Path, root: Path, problems: list[Problem]) -> dict[str, Path]:
    """Files by recording; a command (`... |`) is a problem, and so is what can't be read."""
    recordings: dict[str, Path] = {}
    for line in _lines(path, problems):
        name, _, file = line.text.partition(" ")
        file = file.strip()
        if not file or file.endswith("|"):
            kind = "commands in wav.scp, which are not run" if file else "malformed lines"
            problems.append(Problem(kind, f"{line.source}: {line.text!r}"))
        elif name in recordings:
            problems.append(Problem("recordings that stand twice", f"{line.source}: {name}"))
        else:
            recordings[name] = root / file
    return recordings


def read_rttm(path: Path, problems: list[Problem]) -> list[SourcedTurn]:
    """The SPEAKER lines of an RTTM file (NIST RT-09); comments and other types are passed over."""
    turns = []
    for line in _lines(path, problems):
        if line.words[0] != "SPEAKER":
            if not line.words[0].startswith(";;"):
                problems += [] if line.words[0] in _OTHER_TYPES else [_malformed(line)]
            continue
        times = _seconds(line.words[3:5]) if len(line.words) >= _RTTM_FIELDS else None
        if times is None or times[0] < 0 or times[1] <= 0:
            problems.append(_malformed(line))
            continue
        start_s, duration_s = times
        turns.append(
            SourcedTurn(line.words[1], line.words[7], start_s, start_s + duration_s, line.source)
        )
    return turns


def read_segments(segments: Path, utt2spk: Path, problems: list[Problem]) -> list[SourcedTurn]:
    """The lines of `segments`, each with the speaker that `utt2spk` gives it."""
    speaker_of: dict[str, str] = {}
    for line in _lines(utt2spk, problems):
        if len(line.words) != 2:
            problems.append(_malformed(line))
            continue
        speaker_of[line.words[0]] = line.words[1]
    turns = []
    for line in _lines(segments, problems):
        times = _seconds(line.words[2:]) if len(line.words) == 4 else None
        if times is None or not 0 <= times[0] < times[1]:
            problems.append(_malformed(line))
        elif line.words[0] not in speaker_of:
            problems.append(
                Problem("utterances without a speaker", f"{line.source}: {line.words[0]}")
            )
        else:
            utterance, recording = line.words[:2]
            turns.append(SourcedTurn(recording, speaker_of[utterance], *times, line.source))
    return turns


_OTHER_TYPES = {
    *("SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT"),
    *("SU", "IP", "CB", "A/P", "SPKR-INFO"),
}


def _lines(path: Path, problems: list[Problem]) -> Iterator[_Line]:
    """Those that hold anything."""
    for number, line in enumerate(read_lines(path, problems), 1):
        words = line.split()
        if words:
            yield _Line(words, " ".join(words), f"{path}, line {number}")


def _seconds(words: list[str]) -> tuple[float, float] | None:
    """Two finite numbers."""
    try:
        first, second = map(float, words)
    except ValueError:
        return None
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


def _malformed(line: _Line) -> Problem:
    return Problem("malformed lines", f"{line.source}: {line.text!r}")
