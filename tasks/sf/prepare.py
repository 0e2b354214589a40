"""Audio SNIPS as SUPERB uses it (Lai et al. 2021), into manifests.

    <root>/<split>/<Speaker>-snips-<split>-<number>.wav     splits train, valid, test
    <root>/all.iob.snips.txt     one line an utterance, a tab between words and slots:
                                 <id> BOS <WORD> ... EOS<TAB>O <slot> ... <intent>

A word's slot is a type or O; neighbours of one type are one slot, or, with the types written
B-<type> and I-<type>, as these say. Each split is a part of the speakers.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data import program
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers
from orchestra.wire.errors import DataError, NotFoundError

CORPUS = "snips"
HELP = "Audio SNIPS as SUPERB uses it: train, valid, test folders of wav, and all.iob.snips.txt"
LABELS = "all.iob.snips.txt"

SPEAKERS: Mapping[str, frozenset[str]] = {
    "train": frozenset(
        ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli")
    ),
    "valid": frozenset(("Aditi", "Amy", "Geraint", "Nicole")),
    "test": frozenset(("Brian", "Emma", "Raveena", "Russell")),
}
"""SUPERB's: no voice is in two splits. The recordings of the others are left aside."""

_LETTERS = str.maketrans({"Æ": "AE", "Ø": "O", "Ð": "D", "Ł": "L", "Œ": "OE", "&": " AND "})
_PUNCTUATION = str.maketrans(dict.fromkeys('?!.,;:-–—…"“”¡¿()/', None) | {"’": "'", "`": "'"})


@dataclass(frozen=True)
class Line:
    """One utterance of the label file."""

    id: str
    words: tuple[str, ...]
    slots: tuple[tuple[str, int, int], ...]
    """(type, first word, word behind the last)."""


def prepare(root: Path, out: Path) -> Prepared:
    """Every recording of each split's speakers, with its words and slots.

    Raises:
        NotFoundError: the layout is another one; says what is expected.
        DataError: the label file is not UTF-8.
    """
    if not (root / LABELS).is_file() or not any((root / split).is_dir() for split in SPEAKERS):
        raise NotFoundError(
            f"no Audio SNIPS in {root}: expected {LABELS} and folders {', '.join(SPEAKERS)} of "
            "recordings named <Speaker>-snips-<split>-<number>.wav"
        )
    problems: list[Problem] = []
    labels = {line.id: line for line in _read_labels(root / LABELS, problems)}
    splits = {}
    for split, speakers in SPEAKERS.items():
        if (root / split).is_dir():
            splits[split] = _read_split(root / split, speakers, labels, out, problems)
        else:
            program.say(f"{split}: left aside, there is no folder {root / split}")
    return Prepared(splits, problems)


def _read_split(
    folder: Path,
    speakers: frozenset[str],
    labels: Mapping[str, Line],
    out: Path,
    problems: list[Problem],
) -> list[dict[str, Any]]:
    """Lines of a manifest, by id."""
    recordings = sorted(folder.glob("*.wav"), key=lambda path: path.stem)
    wanted = [path for path in recordings if _speaker(path.stem) in speakers]
    program.say(
        f"{folder.name}: {len(wanted)} of {len(recordings)} recordings, those of "
        f"{', '.join(sorted(speakers))}"
    )
    if not wanted:
        problems.append(Problem("splits without a recording of their speakers", str(folder)))
    headers, unreadable = read_headers(wanted)
    problems += unreadable
    lines = []
    for path in wanted:
        if path.stem not in labels:
            problems.append(Problem(f"recordings without a line in {LABELS}", str(path)))
        elif path in headers:
            label = labels[path.stem]
            lines.append(
                {
                    "id": label.id,
                    "path": os.path.relpath(path, out),
                    "offset_s": 0.0,
                    "duration_s": headers[path].duration_s,
                    "text": " ".join(label.words),
                    "slots": [list(slot) for slot in label.slots],
                    "speaker": _speaker(path.stem),
                }
            )
    found = {path.stem for path in wanted}
    problems += [
        Problem(f"lines of {LABELS} without a recording", id_)
        for id_ in sorted(labels)
        if _speaker(id_) in speakers and _split(id_) == folder.name and id_ not in found
    ]
    return lines


def _read_labels(path: Path, problems: list[Problem]) -> Iterator[Line]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1}); convert it") from None
    first_in: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        parsed = parse_line(line)
        if isinstance(parsed, str):
            problems.append(Problem("malformed lines", f"{path}, line {number}: {parsed}"))
        elif parsed.id in first_in:
            where = f"{path}, line {number}: {parsed.id}, already in line {first_in[parsed.id]}"
            problems.append(Problem("ids with more than one line", where))
        elif not parsed.words:
            where = f"{path}, line {number}: {parsed.id}"
            problems.append(Problem("lines without a word", where))
        else:
            first_in[parsed.id] = number
            yield parsed


def parse_line(line: str) -> Line | str:
    """One line of the label file, or what is wrong with it."""
    left, tab, right = line.rstrip("\r\n").partition("\t")
    if not tab:
        return "no tab between words and slots"
    match left.split():
        case [id_, "BOS", *said, "EOS"]:
            pass
        case _:
            return "not an id and words between BOS and EOS"
    # The first slot stands for BOS, and the intent stands where that of EOS would be.
    tags = right.split()[1:-1]
    if len(tags) != len(said):
        return f"{len(said)} words, but {len(tags)} slots"
    words: list[str] = []
    owners: list[str] = []
    for word, tag in zip(said, tags, strict=True):
        parts = normalised(word)
        words += parts
        owners += [tag, *[tag.replace("B-", "I-", 1)] * (len(parts) - 1)][: len(parts)]
    return Line(id_, tuple(words), tuple(spans(owners)))


def normalised(word: str) -> list[str]:
    """The word in upper case, without accents and punctuation, & as AND; often one, maybe none."""
    decomposed = unicodedata.normalize("NFKD", word.upper().translate(_LETTERS))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return bare.translate(_PUNCTUATION).split()


def spans(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """(type, first, end) of the slots in a row of tags."""
    start = 0
    for place in range(1, len(tags) + 1):
        goes_on = (
            place < len(tags)
            and not tags[place].startswith("B-")
            and _type(tags[place]) == _type(tags[start])
        )
        if not goes_on:
            if tags[start] != "O":
                yield _type(tags[start]), start, place
            start = place


def _type(tag: str) -> str:
    return tag[2:] if tag.startswith(("B-", "I-")) else tag


def _speaker(id_: str) -> str:
    return id_.split("-")[0]


def _split(id_: str) -> str:
    return id_.split("-")[2] if id_.count("-") >= 3 else ""
