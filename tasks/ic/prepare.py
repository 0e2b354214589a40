"""Fluent Speech Commands to manifests.

<root>/data/train_data.csv, valid_data.csv, test_data.csv    columns path, speakerId,
                                             transcription, action, object, location
<root>/wavs/speakers/<speaker>/<name>.wav    what `path` names
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data.corpora import Prepared
from orchestra.data.problems import Problem, read_headers
from orchestra.wire.errors import NotFoundError

CORPUS = "fluent_commands"
HELP = "Fluent Speech Commands: data/*.csv and wavs/"

SLOTS = ("action", "object", "location")
TABLES = {
    "train": "data/train_data.csv",
    "dev": "data/valid_data.csv",
    "test": "data/test_data.csv",
}
COLUMNS = ("path", "speakerId", "transcription", *SLOTS)


@dataclass(frozen=True)
class Row:
    """A line of a table; `place` says where it stands."""

    cells: dict[str, str]
    place: str


def prepare(root: Path, out: Path) -> Prepared:
    """Manifests of train, dev and test (NotFoundError: this is not the corpus)."""
    if not any((root / table).is_file() for table in TABLES.values()):
        raise NotFoundError(
            f"no Fluent Speech Commands in {root}: expected {', '.join(TABLES.values())} in it"
        )
    problems: list[Problem] = []
    rows = {split: _read_table(root / table, problems) for split, table in TABLES.items()}
    there = []
    for row in (row for split in rows.values() for row in split):
        empty = [column for column in ("path", *SLOTS) if not row.cells[column]]
        if empty:
            problems.append(Problem("lines with empty cells", f"{', '.join(empty)} ({row.place})"))
        elif not (root / row.cells["path"]).is_file():
            place = f"{row.cells['path']} ({row.place})"
            problems.append(Problem("recordings in a table that are missing", place))
        else:
            there.append(root / row.cells["path"])
    headers, unreadable = read_headers(sorted(set(there)))
    splits = {
        split: [
            _line(row, root, headers[root / row.cells["path"]].duration_s, out)
            for row in found
            if root / row.cells["path"] in headers
        ]
        for split, found in rows.items()
    }
    return Prepared(splits, [*problems, *unreadable])


def _read_table(path: Path, problems: list[Problem]) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="")
            lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                place = f"{path}: no column {', '.join(lacking)}"
                problems.append(Problem("tables that lack a column", place))
                return []
            return [
                Row(
                    {column: cells[column].strip() for column in COLUMNS},
                    f"{path}, line {reader.line_num}",
                )
                for cells in reader
            ]
    except FileNotFoundError:
        problems.append(Problem("tables that are missing", str(path)))
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem("tables that can't be read", f"{path}: {error}"))
    return []


def _line(row: Row, root: Path, duration_s: float, out: Path) -> dict[str, Any]:
    path = Path(row.cells["path"])
    return {
        "id": f"{row.cells['speakerId']}-{path.stem}",
        "path": os.path.relpath(root / path, out),
        "offset_s": 0.0,
        "duration_s": duration_s,
        "text": row.cells["transcription"],
        "speaker": row.cells["speakerId"],
        **{slot: row.cells[slot] for slot in SLOTS},
    }
