"""Reads tables of text with a header: commas, semicolons or tabs between cells.

Quotes count as RFC 4180 has them, but not where tabs separate: those files (Common Voice's) have
quotation marks in their sentences, and nothing quoted.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from orchestra.data.import_rows import Row, Table, read_text
from orchestra.data.problems import Problem
from orchestra.wire.errors import DataError

_SEPARATORS = "\t;,"


def read(path: Path) -> Table:
    """All rows; those with other cells than the header are problems.

    Raises:
        DataError: it can't be read, its header can't be used, or a quoted cell does not end.
    """
    text = read_text(path)
    header, _, _ = text.partition("\n")
    tabs = path.suffix == ".tsv" or "\t" in header
    separator = "\t" if tabs else max(_SEPARATORS, key=header.count)
    lines = io.StringIO(text, newline="")
    reader = (
        csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
        if tabs
        else csv.reader(lines, delimiter=separator, strict=True)
    )
    rows: list[Row] = []
    problems = []
    columns: list[str] | None = None
    begins = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, the row that begins in line {begins}: {error}") from None
        if cells is None:
            break
        line, begins = begins, reader.line_num + 1
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if columns is None:
            columns = _header(path, line, cells)
        elif len(cells) == len(columns):
            rows.append(Row(line, dict(zip(columns, cells, strict=True))))
        else:
            where = f"{path}, line {line}: {len(cells)}, not {len(columns)}"
            problems.append(Problem("rows with another number of cells than the header", where))
    if columns is None:
        raise DataError(f"{path} is empty: a first line that names the columns is needed")
    return Table(path, tuple(columns), rows, problems)


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    for name, count in Counter(cells).items():
        if not name or count > 1:
            what = f"{count} columns are called {name!r}" if name else "a column has no name"
            raise DataError(f"{path}, line {line}: {what}; the first line has to name each column")
    return cells
