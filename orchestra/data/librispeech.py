"""Read LibriSpeech's folder layout, the real corpus or a synthetic one, into manifests.

    <root>/<split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <root>/<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt    "<id> <TRANSCRIPT>" lines

Nothing is written unless every file of every split is there and readable.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data import program
from orchestra.data.owned import is_unfinished
from orchestra.data.problems import Problem, read_headers
from orchestra.data.synth import MARKER
from orchestra.wire.errors import ConflictError, NotFoundError

SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)


@dataclass(frozen=True)
class Transcript:
    """One line of a .trans.txt file."""

    id: str
    text: str
    source: Path


@dataclass(frozen=True)
class Split:
    """What was found of one split; `lines` are the manifest's."""

    name: str
    lines: list[dict[str, Any]]
    problems: list[Problem]


def find_splits(root: Path) -> list[str]:
    """The splits that `root` has a folder of.

    Raises:
        NotFoundError: it has none; the message says what is expected, or where they are instead.
        ConflictError: a synthesis was interrupted here.
    """
    if is_unfinished(root, MARKER):
        raise ConflictError(
            f"{root}: the synthesis of this corpus has not ended; run it again: "
            f"orchestra data synth librispeech --root {root}"
        )
    found = [split for split in SPLITS if (root / split).is_dir()]
    if found:
        return found
    below = [path.parent for path in root.glob("*/*") if path.name in SPLITS]
    hint = f"; did you mean --root {below[0]}?" if below else ""
    raise NotFoundError(
        f"no LibriSpeech split in {root} (looked for {', '.join(SPLITS)}, "
        f"each with <speaker>/<chapter>/ folders){hint}"
    )


def read_split(root: Path, name: str, manifests: Path) -> Split:
    """All utterances of a split, ordered by id, with paths relative to `manifests`."""
    chapters = sorted(path for path in (root / name).glob("*/*") if path.is_dir())
    program.say(f"{name}: reading {len(chapters)} chapters")
    problems: list[Problem] = []
    transcripts = [line for chapter in chapters for line in _transcripts(chapter, problems)]
    recordings = {path.stem: path for chapter in chapters for path in chapter.glob("*.flac")}
    problems += _mismatches(transcripts, recordings)
    headers, unreadable = read_headers(sorted(recordings.values()))
    problems += unreadable
    if not transcripts and not recordings:
        problems.append(Problem("splits without a recording", str(root / name)))
    lines = []
    for transcript in sorted(transcripts, key=lambda line: line.id):
        path = recordings.get(transcript.id)
        if path is None or path not in headers:
            continue
        lines.append(
            {
                "id": transcript.id,
                "path": os.path.relpath(path, manifests),
                "offset_s": 0.0,
                "duration_s": headers[path].duration_s,
                "text": transcript.text,
                "speaker": path.parent.parent.name,
            }
        )
    return Split(name, lines, problems)


def _transcripts(chapter: Path, problems: list[Problem]) -> Iterator[Transcript]:
    for source in sorted(chapter.glob("*.trans.txt")):
        try:
            lines = source.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem("unreadable transcript files", f"{source}: {error}"))
            continue
        for number, line in enumerate(lines, 1):
            id_, _, text = line.strip().partition(" ")
            if text.strip():
                yield Transcript(id_, " ".join(text.split()), source)
            elif id_:
                problems.append(Problem("empty transcripts", f"{id_} ({source}, line {number})"))


def _mismatches(transcripts: list[Transcript], recordings: dict[str, Path]) -> list[Problem]:
    counts = Counter(line.id for line in transcripts)
    return [
        *(
            Problem("transcripts without audio", f"{line.id} ({line.source})")
            for line in transcripts
            if line.id not in recordings
        ),
        *(
            Problem("recordings without a transcript", f"{id_} ({path})")
            for id_, path in sorted(recordings.items())
            if id_ not in counts
        ),
        *(
            Problem("ids with more than one transcript", id_)
            for id_, count in sorted(counts.items())
            if count > 1
        ),
    ]
