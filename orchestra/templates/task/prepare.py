"""Reads the corpus of newtask: root/<split>/<label>/<recording>.wav.

`orchestra data prepare newtask --root DIR` writes what is found here as manifests, or names every
problem and writes nothing. Change it to read your corpus as it lies on your disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers

CORPUS = "newtask"
HELP = "a folder per split, in it a folder of WAV files per label"
SPLITS = ("train", "dev", "test")


def prepare(root: Path, out: Path) -> Prepared:
    """The lines of each split's manifest; nothing is written."""
    splits: dict[str, list[dict[str, Any]]] = {}
    problems: list[Problem] = []
    for split in SPLITS:
        paths = sorted((root / split).glob("*/*.wav"))
        if not paths:
            problems.append(Problem("splits without a recording", str(root / split)))
        headers, unreadable = read_headers(paths)
        problems += unreadable
        splits[split] = [
            {
                "id": path.relative_to(root).with_suffix("").as_posix(),
                "path": str(path.absolute()),
                "offset_s": 0.0,
                "duration_s": header.duration_s,
                # Everything that the task wants to know of a recording.
                "label": path.parent.name,
            }
            for path, header in headers.items()
        ]
    return Prepared(splits, problems)
