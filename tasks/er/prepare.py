"""IEMOCAP to manifests of four emotions, for five folds: `fold1-train`, `fold1-dev`, `fold1-test`.

    <root>/Session<n>/dialog/EmoEvaluation/<dialog>.txt    lines "[<from> - <to>]\\t<utterance>\\t
                                                           <emotion>\\t[<v>, <a>, <d>]", and others
    <root>/Session<n>/sentences/wav/<dialog>/<utterance>.wav

Fold n tests on session n. A fifth of each emotion in each other session, the utterances whose ids
have the lowest SHA-256, is for dev; the rest is for training.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers
from orchestra.wire.errors import NotFoundError

CORPUS = "iemocap"
HELP = "IEMOCAP: Session1 to Session5 with sentences/wav and dialog/EmoEvaluation"

SESSIONS = range(1, 6)
EMOTIONS = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
"""The label of each emotion that is used; excitement counts as happiness."""
DEV_SHARE = 0.2

_RATED = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\S+)\t(\w+)\t")


@dataclass(frozen=True)
class Rated:
    """An utterance with the emotion that the raters agreed on."""

    id: str
    session: int
    label: str
    path: Path
    place: str


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of three splits for each fold (NotFoundError: this is not the corpus)."""
    if not any((root / f"Session{session}").is_dir() for session in SESSIONS):
        raise NotFoundError(
            f"no IEMOCAP in {root}: expected Session1 to Session5 in it, each with sentences/wav "
            "and dialog/EmoEvaluation"
        )
    problems: list[Problem] = []
    rated = [each for session in SESSIONS for each in _read_session(root, session, problems)]
    problems += [
        Problem("rated utterances without a recording", f"{each.path} ({each.place})")
        for each in rated
        if not each.path.is_file()
    ]
    headers, unreadable = read_headers([each.path for each in rated if each.path.is_file()])
    lines = {
        each.id: {
            "id": each.id,
            "path": os.path.relpath(each.path, out),
            "offset_s": 0.0,
            "duration_s": headers[each.path].duration_s,
            "label": each.label,
            "speaker": _speaker(each.id),
        }
        for each in rated
        if each.path in headers
    }
    known = [each for each in rated if each.id in lines]
    splits = {
        f"fold{fold}-{split}": [lines[each.id] for each in chosen]
        for fold in SESSIONS
        for split, chosen in deal(known, fold).items()
    }
    return Prepared(splits, [*problems, *unreadable])


def deal(rated: list[Rated], fold: int) -> dict[str, list[Rated]]:
    """The utterances of each split of a fold."""
    dev: set[str] = set()
    for session in SESSIONS:
        for label in set(EMOTIONS.values()):
            ids = [each.id for each in rated if (each.session, each.label) == (session, label)]
            ordered = sorted(ids, key=lambda id_: hashlib.sha256(id_.encode()).digest())
            dev.update(ordered[: round(DEV_SHARE * len(ordered))])
    others = [each for each in rated if each.session != fold]
    return {
        "train": [each for each in others if each.id not in dev],
        "dev": [each for each in others if each.id in dev],
        "test": [each for each in rated if each.session == fold],
    }


def _read_session(root: Path, session: int, problems: list[Problem]) -> list[Rated]:
    """The utterances of a session whose emotion is used, ordered by id."""
    folder = root / f"Session{session}"
    # Archives made on a Mac hold a ._<dialog>.txt beside each.
    ratings = sorted(
        path
        for path in (folder / "dialog" / "EmoEvaluation").glob("*.txt")
        if not path.name.startswith(".")
    )
    if not ratings:
        kind = "sessions without ratings"
        problems.append(Problem(kind, f"{folder / 'dialog' / 'EmoEvaluation'}/<dialog>.txt"))
    found = []
    for source in ratings:
        text = source.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.split("\n"), 1):
            match = _RATED.match(line)
            place = f"{source}, line {number}"
            if match and match[2] in EMOTIONS:
                dialog = match[1].rpartition("_")[0]
                path = folder / "sentences" / "wav" / dialog / f"{match[1]}.wav"
                found.append(Rated(match[1], session, EMOTIONS[match[2]], path, place))
            elif not match and line.startswith("["):
                problems.append(Problem("malformed lines", f"{place}: {line.strip()!r}"))
    lacking = sorted(set(EMOTIONS.values()) - {each.label for each in found})
    if ratings and lacking:
        problems.append(Problem("sessions without an emotion", f"{folder}: {', '.join(lacking)}"))
    return sorted(found, key=lambda each: each.id)


def _speaker(id_: str) -> str:
    """Session and sex of who speaks: `Ses01F_impro01_M003` is of `Ses01M`."""
    return id_[:5] + id_.rpartition("_")[2][:1]
