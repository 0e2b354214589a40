"""Read VoxCeleb1's folder layout and lists of trials into manifests for speaker verification.

<root>/dev/wav/<speaker>/<video>/<number>.wav      1,211 speakers: splits train and dev
<root>/test/wav/<speaker>/<video>/<number>.wav     40 speakers
<root>/veri_test2.txt    "<0|1> <path> <path>" lines, paths below test/wav: split test
<root>/veri_test.txt     the same before it was cleaned, if it is there: split test-original
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data.audio import Header
from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers, read_lines
from orchestra.wire.errors import NotFoundError

CORPUS = "voxceleb1-trials"
HELP = "VoxCeleb1 with its lists of trials (veri_test2.txt), for speaker verification"

LISTS = {"test": "veri_test2.txt", "test-original": "veri_test.txt"}
DEV_SHARE, DEV_LEAST = 1 / 30, 8
"""Speakers of dev/wav that are not trained on: 40 of 1,211, as many as the test has; at least 8 of
a smaller corpus, but no more than a quarter."""
DEV_TRIALS = 4
"""Trials of each kind that a dev utterance is enrolled in; as many as the test's, on average."""


@dataclass(frozen=True)
class Recording:
    """A file of the corpus, named as in the lists of trials."""

    id: str  # <speaker>/<video>/<number>
    path: Path

    @property
    def speaker(self) -> str:
        return self.id.split("/", 1)[0]


Trials = dict[str, list[tuple[str, int]]]
"""By the id of the enrolled utterance: ids of test utterances, and 1 for the same speaker."""


def prepare(root: Path, out: Path) -> Prepared:
    """Splits train, dev, test and, where its list is there, test-original.

    Raises:
        NotFoundError: the folders or the list are not there; says what is expected.
    """
    lists = _lists(root)
    known, tested = _recordings(root / "dev" / "wav"), _recordings(root / "test" / "wav")
    problems: list[Problem] = []
    trials = {split: read_trials(path, tested, problems) for split, path in lists.items()}
    held_out = held_out_speakers({recording.speaker for recording in known.values()})
    dev = [recording for recording in known.values() if recording.speaker in held_out]
    train = [recording for recording in known.values() if recording.speaker not in held_out]
    if not dev or not train:
        problems.append(Problem("folders of too few speakers", f"{root}/dev/wav ({len(known)})"))
    named = {split: [tested[name] for name in _named(of)] for split, of in trials.items()}
    splits = {"train": train, "dev": dev, **named}
    trials["dev"] = draw_trials(dev)
    used = {recording.path for recordings in splits.values() for recording in recordings}
    headers, unreadable = read_headers(sorted(used))
    lines = {
        split: _lines(recordings, trials.get(split, {}), headers, out)
        for split, recordings in splits.items()
    }
    return Prepared(lines, problems + unreadable)


def held_out_speakers(speakers: Iterable[str]) -> set[str]:
    """As many as DEV_SHARE and DEV_LEAST say: those whose names have the lowest SHA-256."""
    by_hash = sorted(speakers, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = len(by_hash)
    return set(by_hash[: max(round(count * DEV_SHARE), min(DEV_LEAST, count // 4))])


def draw_trials(recordings: Sequence[Recording]) -> Trials:
    """For each recording DEV_TRIALS others of its speaker and as many of other speakers.

    Drawn by its id alone; `recordings` are sorted. Fewer trials where there are fewer recordings.
    """
    of_speaker: dict[str, list[str]] = defaultdict(list)
    for recording in recordings:
        of_speaker[recording.speaker].append(recording.id)
    trials: Trials = {}
    for speaker, own in of_speaker.items():
        others = [each.id for each in recordings if each.speaker != speaker]
        for enrolled in own:
            draw = random.Random(f"trials/{enrolled}")
            targets = _sample(draw, [name for name in own if name != enrolled])
            pairs = [(name, 1) for name in targets]
            trials[enrolled] = pairs + [(name, 0) for name in _sample(draw, others)]
    return trials


def read_trials(path: Path, known: dict[str, Recording], problems: list[Problem]) -> Trials:
    """The trials of a list; what can't be used is added to `problems` with its line."""
    trials: Trials = defaultdict(list)
    for number, line in enumerate(read_lines(path, problems), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[0] not in ("0", "1"):
            problems.append(Problem("lines that are no trial", f"{path}, line {number}: {line!r}"))
            continue
        enrolled, other = (word.removesuffix(".wav") for word in words[1:])
        missing = [name for name in (enrolled, other) if name not in known]
        problems += [
            Problem("trials that name a missing file", f"{path}, line {number}: {name}.wav")
            for name in missing
        ]
        if not missing:
            trials[enrolled].append((other, int(words[0])))
    return trials


def _lists(root: Path) -> dict[str, Path]:
    """The lists that are there, by split; also demands the folders (NotFoundError)."""
    wanted = [root / "dev" / "wav", root / "test" / "wav"]
    missing = [str(folder.relative_to(root)) for folder in wanted if not folder.is_dir()]
    if missing:
        raise NotFoundError(
            f"{root} is not laid out as VoxCeleb1: there is no {' and no '.join(missing)} "
            "(expected: dev/wav/<speaker>/<video>/<number>.wav, test/wav/..., veri_test2.txt)"
        )
    lists = {split: root / name for split, name in LISTS.items() if (root / name).is_file()}
    if not lists:
        raise NotFoundError(
            f"no list of trials in {root}: put veri_test2.txt there (or veri_test.txt); "
            "VoxCeleb's home page has both"
        )
    return lists


def _recordings(folder: Path) -> dict[str, Recording]:
    """By id, sorted."""
    paths = sorted(folder.glob("*/*/*.wav"))
    ids = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return {id_: Recording(id_, path) for id_, path in zip(ids, paths, strict=True)}


def _named(trials: Trials) -> list[str]:
    """All ids that stand in a trial."""
    return sorted({*trials, *(other for pairs in trials.values() for other, _ in pairs)})


def _sample(draw: random.Random, names: Sequence[str]) -> list[str]:
    return draw.sample(names, min(DEV_TRIALS, len(names)))


def _lines(
    recordings: Iterable[Recording], trials: Trials, headers: dict[Path, Header], out: Path
) -> list[dict[str, Any]]:
    """Lines of a manifest in `out`; without `trials` where an utterance is not enrolled."""
    lines = []
    for recording in recordings:
        if recording.path not in headers:
            continue
        line: dict[str, Any] = {
            "id": recording.id,
            "path": os.path.relpath(recording.path, out),
            "offset_s": 0.0,
            "duration_s": headers[recording.path].duration_s,
            "speaker": recording.speaker,
        }
        if pairs := trials.get(recording.id):
            line["trials"] = [list(pair) for pair in pairs]
        lines.append(line)
    return lines
