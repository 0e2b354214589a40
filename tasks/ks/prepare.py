"""Google's Speech Commands v1 to manifests.

    <root>/speech_commands_v0.01/            or <root> itself
        yes/<speaker>_nohash_<n>.wav         a folder per word, up to 1 s each
        _background_noise_/*.wav             a minute or more each
        validation_list.txt, testing_list.txt    lines "yes/<speaker>_nohash_<n>.wav"
    speech_commands_test_set_v0.01/          beside it or in it; the test split where it is there
        yes/ ... _unknown_/ _silence_/

Ten words are classes; all others are _unknown_, seconds of background noise are _silence_.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestra.data.audio import Header
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers, read_lines
from orchestra.wire.errors import NotFoundError

CORPUS = "speech_commands"
HELP = "Speech Commands v1: a folder per word, with its own test set if that is there"

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
NOISE = "_background_noise_"
TRAIN_FOLDER, TEST_FOLDER = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}

SILENCE_S = 1.0
"""Length of a slice of background noise."""
HELD_OUT = 10
"""Percent of the speakers that are for dev; as many are for test."""
_BUCKETS = 2**27 - 1


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of train, dev and test (NotFoundError: this is not the corpus)."""
    train = root / TRAIN_FOLDER if (root / TRAIN_FOLDER).is_dir() else root
    folders = sorted(path for path in train.iterdir() if _is_word(path))
    if not {folder.name for folder in folders} & set(WORDS):
        raise NotFoundError(
            f"no Speech Commands in {root}: expected folders {', '.join(WORDS[:3])}, ... and "
            f"{NOISE} in it, or in {TRAIN_FOLDER} below it"
        )
    problems = [
        Problem("words without a recording", str(train / word))
        for word in WORDS
        if not any((train / word).glob("*.wav"))
    ]
    recordings = [path for folder in folders for path in sorted(folder.glob("*.wav"))]
    noises = sorted((train / NOISE).glob("*.wav"))
    if not noises:
        problems.append(Problem("folders without background noise", str(train / NOISE)))
    own_tests = _own_tests(train, problems)
    headers, unreadable = read_headers([*recordings, *noises, *own_tests])
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    split_of = _split_by_list(train, recordings, problems)
    for path in recordings:
        if path in headers:
            splits[split_of[path]].append(_line(path, headers[path], out))
    for path in noises:
        if path in headers:
            for split, line in _silences(path, headers[path], out):
                splits[split].append(line)
    if own_tests:
        splits["test"] = [_line(path, headers[path], out) for path in own_tests if path in headers]
    return Prepared(splits, [*problems, *unreadable])


def which_split(name: str) -> str:
    """The split of a recording that no list names: all of a speaker are in the same one.

    By the SHA-1 of what stands before `_nohash_`, as in the corpus's README (Warden 2018).
    """
    speaker = re.sub(r"_nohash_.*$", "", name)
    digest = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = digest % (_BUCKETS + 1) * (100.0 / _BUCKETS)
    if percent < HELD_OUT:
        return "dev"
    return "test" if percent < 2 * HELD_OUT else "train"


def _is_word(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "_")) and path.name != TEST_FOLDER


def _own_tests(train: Path, problems: list[Problem]) -> list[Path]:
    """The recordings of the separate test set; none where it is not there."""
    for folder in (train.parent / TEST_FOLDER, train / TEST_FOLDER):
        if folder.is_dir():
            classes = [folder / name for name in (*WORDS, UNKNOWN, SILENCE)]
            found = {path: sorted(path.glob("*.wav")) for path in classes}
            problems += [
                Problem("classes of the test set without a recording", str(path))
                for path, recordings in found.items()
                if not recordings
            ]
            return [path for recordings in found.values() for path in recordings]
    return []


def _split_by_list(train: Path, recordings: list[Path], problems: list[Problem]) -> dict[Path, str]:
    """The split of each recording: by the two lists, or where there are none by the speaker."""
    there = [name for name in LISTS.values() if (train / name).is_file()]
    if not there:
        return {path: which_split(path.name) for path in recordings}
    if len(there) < len(LISTS):
        missing = next(name for name in LISTS.values() if name not in there)
        problems.append(Problem("lists missing beside the other one", str(train / missing)))
        return dict.fromkeys(recordings, "train")
    split_of = dict.fromkeys(recordings, "train")
    for split, name in LISTS.items():
        for number, entry in enumerate(read_lines(train / name, problems), 1):
            path = train / entry.strip()
            place = f"{entry.strip()} ({train / name}, line {number})"
            if path not in split_of:
                if entry.strip():
                    problems.append(Problem("recordings in a list that are missing", place))
            elif split_of[path] not in ("train", split):
                problems.append(Problem("recordings in both lists", place))
            else:
                split_of[path] = split
    return split_of


def _line(path: Path, header: Header, out: Path) -> dict[str, Any]:
    word = path.parent.name
    return {
        "id": f"{word}-{path.stem}",
        "path": os.path.relpath(path, out),
        "offset_s": 0.0,
        "duration_s": header.duration_s,
        "label": word if word in (*WORDS, SILENCE) else UNKNOWN,
    }


def _silences(path: Path, header: Header, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The slices of a noise: of each ten in a row eight for train, one for dev, one for test."""
    for number in range(int(header.duration_s / SILENCE_S)):
        split = {8: "dev", 9: "test"}.get(number % 10, "train")
        yield (
            split,
            {
                "id": f"{SILENCE}-{path.stem}-{number:03d}",
                "path": os.path.relpath(path, out),
                "offset_s": number * SILENCE_S,
                "duration_s": SILENCE_S,
                "label": SILENCE,
            },
        )
