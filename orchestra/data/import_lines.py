"""Makes lines of manifests from rows: which column is what, ids, times, audio that is there.

All that is wrong is collected. Reads the headers of recordings, and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import isfinite
from pathlib import Path, PurePath
from typing import Any

from orchestra.data.audio import MISSING_TOLERANCE_S, Header
from orchestra.data.import_rows import Row, Table, is_empty, text_of
from orchestra.data.problems import Problem, read_headers
from orchestra.data.program import in_threads, say
from orchestra.wire.errors import UsageError

TEXTS = ("text", "label", "speaker")
"""Fields of a manifest whose values are text."""

PLACES = ("id", "path", "start", "end", "duration")
_ONLY_NAMED = "duration"
"""Many tables say how long the recording is, in whatever unit; that is in its header too."""

RESERVED = (*PLACES, "offset_s", "duration_s")
"""No other column can be imported under these names."""

_NO_NAME = set('/\\+\0"')
"""A split is the name of a file, and a plus sign joins splits."""

EMPTY = "empty cells (fill them, or take the rows out)"


@dataclass(frozen=True)
class Columns:
    """Which column holds what."""

    named: Mapping[str, str] = field(default_factory=dict)
    """Column by what it holds (PLACES, TEXTS), where it is not the column of that name."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Column by the field that it becomes, as it stands."""
    split: str | None = None
    """Its cells name each row's split."""


@dataclass(frozen=True)
class Chosen:
    """Columns of one table."""

    places: dict[str, str]
    fields: dict[str, str]
    """Fields of the manifest's lines, by column."""
    unused: list[str]


@dataclass(frozen=True)
class _Utterance:
    row: Row
    split: str
    path: Path
    written: str
    """The path as the source has it."""
    start_s: float
    end_s: float | None


def choose(table: Table, columns: Columns) -> Chosen:
    """What is taken of a table: what was named, and columns that have the name of what they hold.

    Raises:
        UsageError: a column is not there, or none is the path.
    """
    missing = [
        f"{flag} {column}"
        for flag, column in [
            *((f"--{name}", column) for name, column in columns.named.items()),
            *((f"--column {name}=", column) for name, column in columns.more.items()),
            *([("--split-column", columns.split)] if columns.split else []),
        ]
        if column not in table.columns
    ]
    there = ", ".join(table.columns) or "none"
    if missing:
        raise UsageError(f"{', '.join(missing)}: {table.source} has the columns {there}")
    usual = (*PLACES, *TEXTS, *table.taken)
    own = {name: name for name in usual if name in table.columns and name != _ONLY_NAMED}
    chosen = {**own, **columns.named}
    if "end" in columns.named and _ONLY_NAMED in columns.named:
        raise UsageError("--end and --duration: give one of them")
    if "path" not in chosen:
        raise UsageError(f"--path COL: which column of {table.source} is it? It has {there}")
    places = {name: column for name, column in chosen.items() if name in PLACES}
    fields = {name: column for name, column in chosen.items() if name not in PLACES}
    fields |= columns.more
    used = {*places.values(), *fields.values(), columns.split}
    return Chosen(places, fields, [name for name in table.columns if name not in used])


class Import:
    """Lines of manifests in `out`, and all that is wrong, over all sources."""

    def __init__(self, out: Path) -> None:
        self.splits: dict[str, list[dict[str, Any]]] = {}
        self.problems: list[Problem] = []
        self._out = out
        self._places: dict[tuple[str, str], list[str]] = {}
        """Where an id stands, by split and id."""

    def add(self, table: Table, chosen: Chosen, split_of: Callable[[Row], Any], root: Path) -> None:
        """The rows of a source; relative paths begin at `root`."""
        problems = self.problems
        problems += table.problems
        if not table.rows and not table.problems:
            problems.append(Problem("sources without an utterance", str(table.source)))
        utterances = []
        for row in table.rows:
            utterance = _utterance(table, chosen, row, split_of(row), root, problems)
            if utterance is not None:
                utterances.append(utterance)
        headers = _headers(table, utterances, problems)
        empty = _all_empty(table, chosen)
        _tell_gaps(table, chosen, empty)
        for utterance in utterances:
            fields = _fields(table, chosen, utterance.row, empty, problems)
            id_ = _id(table, chosen, utterance, problems)
            key = utterance.split, id_
            self._places.setdefault(key, []).append(table.place(utterance.row))
            header = headers.get(utterance.path)
            if header is None:
                continue
            end_s = _end_s(table, utterance, header, problems)
            times = {
                "offset_s": utterance.start_s,
                "duration_s": round(end_s - utterance.start_s, 6),
            }
            line = {"id": id_, "path": _path_in(self._out, utterance), **times, **fields}
            self.splits.setdefault(utterance.split, []).append(line)

    def all_problems(self) -> list[Problem]:
        """Those of the sources, and of what they have in common."""
        return [
            *self.problems,
            *(
                Problem("ids that stand more than once", f"{id_!r} ({' and '.join(places)})")
                for (_, id_), places in self._places.items()
                if len(places) > 1 and id_
            ),
            *(
                Problem("splits that can't be the name of a file", repr(split))
                for split in dict.fromkeys(split for split, _ in self._places)
                if split.startswith(".") or not _NO_NAME.isdisjoint(split)
            ),
        ]


def _utterance(
    table: Table,
    chosen: Chosen,
    row: Row,
    split: Any,
    root: Path,
    problems: list[Problem],
) -> _Utterance | None:
    place = table.place(row)
    path = row.cells.get(chosen.places["path"])
    if not isinstance(path, str) or is_empty(path):
        problems.append(Problem("rows without a path", place))
        return None
    if is_empty(split):
        problems.append(Problem("rows without a split", place))
        return None
    try:
        start_s = _seconds(chosen, row, "start") or 0.0
        end_s = _seconds(chosen, row, "end")
        lasts_s = _seconds(chosen, row, "duration")
    except ValueError as error:
        problems.append(Problem("times that are no seconds", f"{place}: {error}"))
        return None
    if lasts_s is not None:
        end_s = start_s + lasts_s
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        problems.append(Problem("parts that end before they begin", f"{place}: {start_s}-{end_s}"))
        return None
    absolute = Path(os.path.normpath(root / Path(path.strip()).expanduser()))
    return _Utterance(row, str(split).strip(), absolute, path.strip(), start_s, end_s)


def _seconds(chosen: Chosen, row: Row, name: str) -> float | None:
    """None where there is nothing (ValueError: it is no number)."""
    cell = row.cells.get(chosen.places.get(name, ""))
    if is_empty(cell):
        return None
    try:
        seconds = float(text_of(cell) or "")
    except ValueError:
        raise ValueError(repr(cell)) from None
    if not isfinite(seconds):
        raise ValueError(repr(cell))
    return seconds


def _headers(
    table: Table, utterances: Sequence[_Utterance], problems: list[Problem]
) -> dict[Path, Header]:
    first_row = {one.path: one.row for one in reversed(utterances)}
    paths = sorted(first_row)
    there = list(compress(paths, in_threads(Path.is_file, paths, per_core=4)))
    missing = sorted(set(paths) - set(there), key=lambda path: first_row[path].line)
    problems += [
        Problem("missing recordings", f"{path} ({table.place(first_row[path])})")
        for path in missing
    ]
    headers, unreadable = read_headers(there)
    problems += unreadable
    return headers


def _all_empty(table: Table, chosen: Chosen) -> set[str]:
    """Fields of which no row has anything: the source has none of them."""
    return {
        name
        for name, column in chosen.fields.items()
        if all(is_empty(row.cells.get(column)) for row in table.rows)
    }


def _tell_gaps(table: Table, chosen: Chosen, empty: set[str]) -> None:
    """Fields that only some rows have: Common Voice knows few speakers' accents."""
    for name, column in chosen.fields.items():
        gaps = sum(is_empty(row.cells.get(column)) for row in table.rows)
        if gaps and name not in TEXTS and name not in empty:
            say(
                f"{table.source}: {gaps} of {len(table.rows)} rows have nothing in {column}; they "
                f"get no {name}"
            )


def _fields(
    table: Table, chosen: Chosen, row: Row, empty: set[str], problems: list[Problem]
) -> dict[str, Any]:
    fields = {}
    for name, column in chosen.fields.items():
        if name in empty:
            continue
        cell = row.cells.get(column)
        if is_empty(cell) and name not in TEXTS:
            continue
        if is_empty(cell):
            problems.append(Problem(EMPTY, f"{column} ({table.place(row)})"))
        elif name not in TEXTS:
            fields[name] = cell
        elif (text := text_of(cell)) is None:
            problems.append(Problem("cells that are no text", f"{column} ({table.place(row)})"))
        else:
            fields[name] = " ".join(text.split())
    return fields


def _id(table: Table, chosen: Chosen, utterance: _Utterance, problems: list[Problem]) -> str:
    """The column's, or made from the path, and from the times where there are some."""
    if "id" in chosen.places:
        id_ = text_of(utterance.row.cells.get(chosen.places["id"]))
        if is_empty(id_):
            problems.append(Problem("rows without an id", table.place(utterance.row)))
        return (id_ or "").strip()
    path = PurePath(utterance.written).with_suffix("")
    parts = [part for part in path.parts if part not in (path.anchor, "..", "~")]
    if "start" in chosen.places:
        parts.append(f"{round(utterance.start_s * 1000):07d}")
    return "-".join(parts)


def _end_s(table: Table, utterance: _Utterance, header: Header, problems: list[Problem]) -> float:
    """Where it ends; rounded times may pass the end of the recording a little."""
    lasts_s = header.duration_s
    end_s = lasts_s if utterance.end_s is None else utterance.end_s
    if end_s > lasts_s + MISSING_TOLERANCE_S or utterance.start_s >= lasts_s:
        problems.append(
            Problem(
                "parts that lie behind the end of their recording",
                f"{table.place(utterance.row)}: {utterance.start_s:g}-{end_s:g} s of "
                f"{utterance.path}, which lasts {lasts_s:.2f} s",
            )
        )
    return min(end_s, lasts_s)


def _path_in(out: Path, utterance: _Utterance) -> str:
    """Relative to the manifest where the source's is relative: both may move together."""
    if PurePath(utterance.written).is_absolute() or utterance.written.startswith("~"):
        return str(utterance.path)
    return os.path.relpath(utterance.path, out)
