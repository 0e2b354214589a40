"""Reads JSON Lines: one object per line, its keys are the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from orchestra.data.import_rows import Row, Table, read_text
from orchestra.data.problems import Problem


def read(path: Path) -> Table:
    """All lines; those that are no objects are problems (DataError as `read_text`)."""
    rows: list[Row] = []
    problems = []
    # Transcripts may hold characters at which str.splitlines would split too.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            problems.append(Problem("lines that are no JSON", f"{path}, line {number}: {error}"))
            continue
        if isinstance(cells, dict):
            rows.append(Row(number, cells))
        else:
            problems.append(Problem("lines that are no JSON objects", f"{path}, line {number}"))
    columns = dict.fromkeys(key for row in rows for key in row.cells)
    return Table(path, tuple(columns), rows, problems)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
