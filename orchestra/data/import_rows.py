"""What every format is read into: rows of named cells, each knowing where it stands.

Shared by import_jsonl, import_csv and import_kaldi, which alone know files; import_lines makes
lines of manifests from rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.data.problems import Problem
from orchestra.wire.errors import DataError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One utterance as its source tells it."""

    line: int
    """In the source's file, from 1."""
    cells: Mapping[str, Any]
    """By column; text, or what JSON has. A cell that is not there counts as empty."""


@dataclass(frozen=True)
class Table:
    """A source, read."""

    source: Path
    """The file in which the lines are counted."""
    columns: tuple[str, ...]
    rows: list[Row]
    problems: list[Problem]
    taken: tuple[str, ...] = ()
    """Columns that are imported under their own names without being asked for."""

    def place(self, row: Row) -> str:
        """Where it stands, for messages."""
        return f"{self.source}, line {row.line}"


def is_empty(cell: Any) -> bool:
    """Whether there is nothing in it."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def text_of(cell: Any) -> str | None:
    """A cell that has to be text: a number as JSON writes it; None for lists and objects."""
    if isinstance(cell, str):
        return cell
    return json.dumps(cell) if isinstance(cell, bool | int | float) else None


def read_text(path: Path) -> str:
    """A text file, with or without a byte order mark; line ends as they stand.

    Raises:
        DataError: it can't be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if data.startswith(_UTF_16):
        raise DataError(f"{path} is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); convert the file, "
            "such as by iconv -f LATIN1 -t UTF-8"
        ) from error
