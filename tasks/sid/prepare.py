"""VoxCeleb1 to manifests of speaker identification.

<root>/dev/wav/<speaker>/<video>/<n>.wav     both folders hold recordings of all three splits
<root>/test/wav/<speaker>/<video>/<n>.wav
<root>/iden_split.txt                        lines "1 <speaker>/<video>/<n>.wav": 1 is train,
                                             2 dev, 3 test; also as veri_test_class.txt
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers, read_lines
from orchestra.wire.errors import NotFoundError

CORPUS = "voxceleb1"
HELP = "VoxCeleb1: dev/wav, test/wav and the list of its identification split"

FOLDERS = ("dev/wav", "test/wav")
LISTS = ("iden_split.txt", "veri_test_class.txt")
SPLITS = {"1": "train", "2": "dev", "3": "test"}


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of train, dev and test (NotFoundError: this is not the corpus)."""
    recordings = _find_recordings(root)
    source = _find_list(root)
    problems: list[Problem] = []
    split_of = _read_list(source, recordings, problems)
    problems += [
        Problem("recordings that the list does not name", str(path))
        for name, path in recordings.items()
        if name not in split_of
    ]
    headers, unreadable = read_headers([recordings[name] for name in split_of])
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS.values()}
    for name, split in sorted(split_of.items()):
        path = recordings[name]
        if path in headers:
            splits[split].append(
                {
                    "id": name.removesuffix(".wav").replace("/", "-"),
                    "path": os.path.relpath(path, out),
                    "offset_s": 0.0,
                    "duration_s": headers[path].duration_s,
                    "label": name.split("/")[0],
                }
            )
    return Prepared(splits, [*problems, *unreadable, *_untrained(splits)])


def _find_recordings(root: Path) -> dict[str, Path]:
    """By name as lists have it: `<speaker>/<video>/<n>.wav`."""
    found = {
        str(path.relative_to(root / folder)): path
        for folder in FOLDERS
        for path in sorted((root / folder).glob("*/*/*.wav"))
    }
    if not found:
        raise NotFoundError(
            f"no VoxCeleb1 in {root}: expected {' and '.join(FOLDERS)} in it, each with "
            "<speaker>/<video>/<n>.wav"
        )
    return found


def _find_list(root: Path) -> Path:
    for name in LISTS:
        if (root / name).is_file():
            return root / name
    raise NotFoundError(
        f"no list of the splits in {root}: expected {' or '.join(LISTS)} there (VoxCeleb's own "
        "site has it, with lines such as `1 id10003/na8-QEFmj44/00003.wav`)"
    )


def _read_list(
    source: Path, recordings: dict[str, Path], problems: list[Problem]
) -> dict[str, str]:
    """The split of every recording that is named and there."""
    split_of: dict[str, str] = {}
    for number, line in enumerate(read_lines(source, problems), 1):
        code, _, name = line.strip().partition(" ")
        place = f"{name or line.strip()} ({source}, line {number})"
        if not code:
            continue
        if code not in SPLITS or not name:
            kind = "lines of the list that are not 1, 2 or 3 and a recording"
            problems.append(Problem(kind, place))
        elif name not in recordings:
            problems.append(Problem("recordings of the list that are missing", place))
        elif split_of.get(name, SPLITS[code]) != SPLITS[code]:
            problems.append(Problem("recordings that the list gives to two splits", place))
        else:
            split_of[name] = SPLITS[code]
    return split_of


def _untrained(splits: dict[str, list[dict[str, Any]]]) -> list[Problem]:
    trained = {line["label"] for line in splits["train"]}
    others = {line["label"] for split in ("dev", "test") for line in splits[split]}
    kind = "speakers without a training recording"
    return [Problem(kind, speaker) for speaker in sorted(others - trained)]
