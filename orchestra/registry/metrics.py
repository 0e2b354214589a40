"""A run's own metric store: every point of every series, in runs/<id>/metrics.db.

Written by the run's supervisor alone, read by anybody. Standard library only.
Keys: `train/<name>` and `validation/<split>/<name>`. Appending the same records again changes
nothing, so a supervisor that takes over may read a records file from its start.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.registry.database import DamagedError, Database, errors_as_sentences
from orchestra.registry.location import network_type
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.folders import Job
from orchestra.wire.records import Record, read_records

VERSION = 1
_REMEDY = "go on without it: its points are also in attempts/*/records.jsonl"

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS points (
        series INTEGER NOT NULL REFERENCES series (id),
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        time_s REAL NOT NULL,
        value REAL,
        superseded INTEGER NOT NULL,
        PRIMARY KEY (series, step, attempt)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS starts (attempt INTEGER PRIMARY KEY, step INTEGER NOT NULL);
"""

# Superseded: a later attempt went on from an earlier step and computed this point again.
_PUT = """
    INSERT INTO points (series, attempt, step, time_s, value, superseded)
    VALUES ((SELECT id FROM series WHERE key = ?1), ?2, ?3, ?4, ?5,
        EXISTS (SELECT 1 FROM starts WHERE starts.attempt > ?2 AND starts.step < ?3))
    ON CONFLICT DO UPDATE SET time_s = excluded.time_s, value = excluded.value"""

# Two subqueries: SQLite seeks for a lone min or max, but scans for both at once.
_ENDS = """
    SELECT (SELECT min(step) FROM points WHERE series = ?1),
        (SELECT max(step) FROM points WHERE series = ?1)"""

# One index seek per point shown, however many there are: the next point at or after each tick.
# CROSS JOIN keeps SQLite from scanning all points instead.
_THINNED = """
    WITH RECURSIVE shown(step) AS (
        SELECT min(step) FROM points WHERE series = ?1
        UNION ALL
        SELECT (SELECT min(step) FROM points WHERE series = ?1 AND points.step >= shown.step + ?2)
        FROM shown WHERE shown.step IS NOT NULL
    )
    SELECT points.step, value, time_s, attempt, superseded
    FROM shown CROSS JOIN points ON points.series = ?1 AND points.step = shown.step
    ORDER BY points.step, attempt"""

_BUCKET = """
    SELECT min(step), max(step), avg(time_s), min(value), max(value), avg(value),
        count(*), count(*) - count(value), min(attempt), min(superseded),
        max(attempt), max(superseded)
    FROM points
    WHERE series = (SELECT id FROM series WHERE key = ?) AND step >= ? AND step < ?"""

# The rare bucket: several attempts, or infinite values, which are counted like NaN.
_FINITE = "FILTER (WHERE value BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308)"
_MIXED_BUCKET = f"""
    SELECT min(step), max(step), avg(time_s), min(value) {_FINITE}, max(value) {_FINITE},
        avg(value) {_FINITE}, count(*), count(*) - count(value) {_FINITE}, attempt, superseded
    FROM points
    WHERE series = (SELECT id FROM series WHERE key = ?) AND step >= ? AND step < ?
    GROUP BY attempt, superseded ORDER BY superseded DESC, attempt"""


@dataclass(frozen=True)
class Point:
    """One value. `superseded`: a later attempt restarted before this step."""

    step: int
    value: float  # NaN stays NaN
    time_s: float  # Unix time
    attempt: int
    superseded: bool


class Bucket(NamedTuple):
    """Neighbouring points of one attempt, summed up. Only finite values count in what is said of
    values; NaN where there are none."""

    first_step: int
    last_step: int
    time_s: float
    """Unix time, the mean."""
    low: float
    high: float
    mean: float
    points: int
    not_finite: int
    """How many of the points are NaN or infinite."""
    attempt: int
    superseded: bool


class MetricStore:
    """The store at `path`, made at the first append; before that every series is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Database | None = None

    def append(self, attempt: int, records: Iterable[Record]) -> None:
        """Take over the points of one attempt; a "start" record marks what it supersedes.

        Raises:
            DamagedError: the store is damaged; see `remake`.
            OrchestraError: it can't be written.
        """
        if self._database is None and not self._path.is_file():
            _create(self._path)
        database = self._open()
        assert database is not None
        with database.write() as connection:
            for record in records:
                if record.kind == "start":
                    _start(connection, attempt, int(record.values.get("step", record.step)))
                for key, value in _points(record):
                    _put(connection, attempt, record, key, value)

    def remake(self, job: Job) -> None:
        """Make the store from the records of all the job's attempts; a file that is there goes
        aside, as <name>.damaged.

        Raises:
            OrchestraError: it can't be written.
        """
        self.close()
        try:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    old = self._path.with_name(self._path.name + suffix)
                    old.replace(self._path.with_name(f"{self._path.name}.damaged{suffix}"))
        except OSError as error:
            raise OrchestraError(f"cannot set {self._path} aside: {error.strerror}") from error
        for attempt in job.attempts():
            with contextlib.suppress(OSError), attempt.records.open("rb") as file:
                self.append(attempt.number, read_records(file))

    def keys(self) -> list[str]:
        """The series there are."""
        return [key for (key,) in self._read("SELECT key FROM series ORDER BY key")]

    def series(self, key: str, *, max_points: int | None = None) -> list[Point]:
        """All points of a series by step, then attempt; about `max_points` of them if given.

        Thinning keeps points at even step distances and the newest one.
        """
        series = self._id(key)
        if series is None:
            return []
        low, high = self._read(_ENDS, (series,))[0]
        if max_points is not None and high - low >= max_points:
            rows = self._read(_THINNED, (series, -(-(high - low) // max_points)))
            if rows[-1][0] != high:
                rows += self._at(series, high)
            return [_point(row) for row in rows]
        sql = (
            "SELECT step, value, time_s, attempt, superseded FROM points "
            "WHERE series = ? ORDER BY step, attempt"
        )
        return [_point(row) for row in self._read(sql, (series,))]

    def bucket(self, key: str, first: int, end: int) -> list[Bucket]:
        """The points from step `first` on and before step `end`, summed up in SQL (which lets
        other threads go on): nothing, or one bucket for each attempt and what it superseded."""
        rows = self._read(_BUCKET, (key, first, end))
        if not rows or not rows[0][6]:
            return []
        row = rows[0]
        *_, attempt, superseded, last_attempt, last_superseded = row
        if (attempt, superseded) == (last_attempt, last_superseded) and _finite(row[3], row[4]):
            return [_bucket(row[:10])]
        return [_bucket(row) for row in self._read(_MIXED_BUCKET, (key, first, end))]

    def ends(self, key: str) -> tuple[int, int] | None:
        """The first and the last step of a series; None while it is empty."""
        series = self._id(key)
        if series is None:
            return None
        low, high = self._read(_ENDS, (series,))[0]
        return None if low is None else (low, high)

    def starts(self) -> list[tuple[int, int]]:
        """Attempts and the step that each went on from."""
        return self._read("SELECT attempt, step FROM starts ORDER BY attempt")

    def stamp(self) -> tuple[int, int] | None:
        """Changes whenever something was appended since; None while there is no file."""
        database = self._open()
        return None if database is None else database.generation()

    def newest(self, key: str) -> Point | None:
        """The newest point of a series that no later attempt superseded."""
        series = self._id(key)
        sql = (
            "SELECT step, value, time_s, attempt, superseded FROM points "
            "WHERE series = ? AND NOT superseded ORDER BY step DESC LIMIT 1"
        )
        found = [] if series is None else self._read(sql, (series,))
        return _point(found[0]) if found else None

    def last(self) -> dict[str, Point]:
        """The newest point of each series that no later attempt superseded."""
        sql = """
            SELECT key, step, value, time_s, attempt, superseded FROM series CROSS JOIN points
            ON series = id AND step = (
                SELECT step FROM points WHERE series = id AND NOT superseded
                ORDER BY step DESC LIMIT 1)
            WHERE NOT superseded ORDER BY key, attempt"""
        return {row[0]: _point(row[1:]) for row in self._read(sql)}

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _id(self, key: str) -> int | None:
        found = self._read("SELECT id FROM series WHERE key = ?", (key,))
        return found[0][0] if found else None

    def _at(self, series: int, step: int) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT step, value, time_s, attempt, superseded FROM points "
            "WHERE series = ? AND step = ? ORDER BY attempt"
        )
        return self._read(sql, (series, step))

    def _read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        database = self._open()
        return [] if database is None else database.read(sql, parameters)

    def _open(self) -> Database | None:
        if self._database is None and self._path.is_file():
            database = Database(self._path, _REMEDY)
            version = database.version()
            if version == 0:  # emptied: `_create` leaves no file without one
                database.close()
                raise DamagedError(f"{self._path} is damaged (it is empty): {_REMEDY}")
            if version > VERSION:
                database.close()
                raise UsageError(
                    f"{self._path} was written by a newer orchestra (version {version}, this one "
                    f"knows {VERSION}): upgrade orchestra"
                )
            self._database = database
        return self._database


def _create(path: Path) -> None:
    """A whole file or none: made under another name, then renamed."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        # WAL lets readers look on while the supervisor writes; it does not work over a network.
        journal = "WAL" if network_type(path.parent) is None else "DELETE"
        temporary.unlink(missing_ok=True)
        with (
            errors_as_sentences(path),
            contextlib.closing(sqlite3.connect(temporary)) as connection,
        ):
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        temporary.replace(path)
    except OSError as error:
        raise OrchestraError(f"cannot make {path}: {error.strerror}") from error


def _start(connection: sqlite3.Connection, attempt: int, step: int) -> None:
    connection.execute("INSERT OR REPLACE INTO starts VALUES (?, ?)", (attempt, step))
    connection.execute(
        "UPDATE points SET superseded = 1 WHERE attempt < ? AND step > ?", (attempt, step)
    )


def _put(
    connection: sqlite3.Connection, attempt: int, record: Record, key: str, value: float
) -> None:
    connection.execute("INSERT OR IGNORE INTO series (key) VALUES (?)", (key,))
    connection.execute(_PUT, (key, attempt, record.step, record.time_s, value))


def _points(record: Record) -> Iterator[tuple[str, float]]:
    """Keys and values of a train or validation record; other kinds have no series."""
    if record.kind == "train":
        prefix = "train"
    elif record.kind == "validation":
        prefix = f"validation/{record.values.get('split', '')}"
    else:
        return
    for name, value in record.values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


def _finite(*values: float | None) -> bool:
    return all(value is None or math.isfinite(value) for value in values)


def _bucket(row: tuple[Any, ...]) -> Bucket:
    first, last, time_s, low, high, mean, points, not_finite, attempt, superseded = row
    if low is None:  # none is finite
        low = high = mean = math.nan
    return Bucket(
        *(first, last, time_s, low, high, mean, points, not_finite, attempt, bool(superseded))
    )


def _point(row: tuple[Any, ...]) -> Point:
    step, value, time_s, attempt, superseded = row
    # SQLite stores NaN as NULL.
    return Point(step, math.nan if value is None else value, time_s, attempt, bool(superseded))
