"""References of predictions that were made elsewhere: read, and matched with the predictions.

A table of references is JSON Lines, or CSV or TSV with a header; a manifest is one. Each row has
`id` or `path`, and the labels under the names that the task's manifests have (`text`, `label` ...).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestra.data import import_csv
from orchestra.data.import_rows import read_text
from orchestra.data.program import say
from orchestra.tasks import Prediction
from orchestra.wire.errors import DataError, UsageError
from orchestra.wire.manifest import Utterance

Row = dict[str, Any]
By = Literal["id", "path"]
_NAMED = 3
_TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Matched:
    """Predictions with the rows that they are to be compared to."""

    pairs: list[tuple[Prediction, Row]]
    """Ordered by the prediction's id."""
    missing: list[str]
    """Keys of references without a prediction."""
    extra: list[str]
    """Keys of predictions without a reference."""
    errors: list[str]
    """Keys of records that hold an error instead of a prediction; they are missing too."""


def read_rows(path: Path) -> list[Row]:
    """The references in a file (DataError names the line, UsageError: there is none)."""
    if not path.is_file():
        raise UsageError(f"--refs {path}: No such file or directory")
    rows = _of_table(path) if path.suffix.lower() in _TABLES else list(_of_lines(path))
    if not rows:
        raise DataError(f"{path}: no references in it")
    return rows


def _of_lines(path: Path) -> Iterator[Row]:
    return read_lines(str(path), read_text(path))


def _of_table(path: Path) -> list[Row]:
    table = import_csv.read(path)
    if table.problems:
        raise DataError(f"{table.problems[0].where} cells, as the header has")
    rows = [dict(row.cells) for row in table.rows]
    _tell_numbers(path, rows)
    return rows


def read_lines(name: str, text: str) -> Iterator[Row]:
    """One JSON object a line, empty lines are none (DataError names the line)."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: not a JSON object")
        yield row


def match(
    predictions: Sequence[Prediction],
    rows: Sequence[Row],
    by: By,
    folder: Path,
) -> Matched:
    """Which prediction belongs to which row.

    Args:
        by: paths are compared as absolute ones: those of predictions are seen from the current
            folder, those of rows from `folder`, where their file lies.

    Raises:
        DataError: a prediction or a row has no such key, or shares it with another.
    """
    found = _keyed(predictions, "predictions", _key_of(by, Path.cwd()))
    wanted = _keyed(rows, "references", _key_of(by, folder))
    errors = sorted(key for key, record in found.items() if "error" in record)
    usable = {key: record for key, record in found.items() if "error" not in record}
    pairs = [(record, wanted[key]) for key, record in usable.items() if key in wanted]
    return Matched(
        sorted(pairs, key=lambda pair: str(pair[0].get("id", ""))),
        missing=sorted(wanted.keys() - usable.keys()),
        extra=sorted(found.keys() - wanted.keys()),
        errors=errors,
    )


def require_all(matched: Matched, by: By) -> None:
    """DataError unless each reference has its prediction and each prediction its reference."""
    complaints = [
        f"{len(keys)} {what} ({some(keys)})"
        for keys, what in (
            (matched.missing, "references have no prediction"),
            (matched.extra, "predictions have no reference"),
        )
        if keys
    ]
    if not complaints:
        return
    other = "path" if by == "id" else "id"
    raise DataError(
        f"{' and '.join(complaints)}, {len(matched.pairs)} have both (matched by {by}): score "
        f"these alone with --partial, or match with --by {other}"
    )


def utterance_of(prediction: Prediction, row: Row) -> Utterance:
    """The row as the task's `refer` takes it, under the prediction's id.

    How long it lasts a prediction may know too (diarization's does).
    """
    name = str(prediction["id"])
    lasts_s: Any = row.get("duration_s", prediction.get("duration_s", 0.0))
    try:
        offset_s, duration_s = float(row.get("offset_s", 0.0)), float(lasts_s)
    except (TypeError, ValueError) as error:
        raise DataError(f"reference {name}: offset_s or duration_s is no number") from error
    path = Path(str(row.get("path", "")))
    return Utterance(name, path, offset_s, duration_s, {**row, "id": name})


def _key_of(by: By, folder: Path) -> Callable[[Mapping[str, Any]], str]:
    def key(row: Mapping[str, Any]) -> str:
        value = row[by]
        return str(value) if by == "id" else str((folder / str(value)).resolve())

    return key


def _keyed(
    rows: Iterable[Row], what: str, key_of: Callable[[Mapping[str, Any]], str]
) -> dict[str, Row]:
    keyed: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        try:
            key = key_of(row)
        except KeyError as error:
            raise DataError(f"{what}: number {number} has no {error.args[0]!r}") from None
        if key in keyed:
            raise DataError(f"{what}: {key!r} stands twice (number {number} is the second)")
        keyed[key] = row
    return keyed


def _tell_numbers(path: Path, rows: Sequence[Row]) -> None:
    """The number 3 and the text "3" are not the same label."""
    columns = [
        c for c in next(iter(rows), {}) if all(row[c].lstrip("-").isdecimal() for row in rows)
    ]
    for column in columns:
        if column != "id":
            say(
                f"note: {path}: the numbers of column {column!r} are taken as text; if they are "
                "numbers in the task's manifests, give the references as JSON Lines"
            )


def some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more
