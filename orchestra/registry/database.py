"""One SQLite file: connection settings, transactions, and database errors as sentences.

Standard library only, no knowledge of tables. Every write is a BEGIN IMMEDIATE transaction: a
deferred one that reads first loses its update to another writer ("database is locked").
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.files import is_disk_full

BUSY_TIMEOUT_S = 30.0

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
}


class DamagedError(OrchestraError):
    """The file is no whole SQLite database."""


REBUILT = "repeat the command; it is then rebuilt from the run folders"


class Database:
    """An open file. If somebody moves it away, the next call opens the one now at its path.

    `remedy` says what to do once a damaged file is moved away.
    """

    def __init__(self, path: Path, remedy: str = REBUILT) -> None:
        self.path = path
        self._remedy = remedy
        self._functions: dict[str, Callable[..., Any]] = {}
        self._schema: int | None = None
        self._connection, self._inode = self._connect()

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query. A file that can be read, but not used in place, is copied for it:
        even readers of a WAL write, which a full or read-only disk does not let them.
        """
        connection = self._current()
        with errors_as_sentences(self.path, self._remedy):
            try:
                return connection.execute(sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if _primary_code(error) not in _UNWRITABLE | {sqlite3.SQLITE_FULL}:
                    raise
                rows = _read_copy(self.path, sql, parameters, self._functions)
                if rows is None:
                    raise
                return rows

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; joined if one is open already.

        Committed when the block ends, rolled back when it raises.
        """
        connection = self._current()
        if connection.in_transaction:
            yield connection
            return
        with errors_as_sentences(self.path, self._remedy):
            # In WAL mode the file stays whole at a power cut; only the newest rows may be missing,
            # and the run folders have them. Not in _connect(): it touches the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def define(self, name: str, function: Callable[..., Any]) -> None:
        """Make a function known to SQL; it must not raise. The same once more is nothing new."""
        if self._functions.get(name) is not function:
            self._functions[name] = function
            self._connection.create_function(name, -1, function)

    def generation(self) -> tuple[int, int]:
        """Differs from the last one as soon as another connection has changed the file, or another
        file took its place. Asking costs microseconds.
        """
        (row,) = self.read("PRAGMA data_version")
        return self._inode, int(row[0])

    def insist_on(self, schema: int) -> None:
        """A file that takes the place of this one must have that schema version, too."""
        self._schema = schema

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _current(self) -> sqlite3.Connection:
        if not self._connection.in_transaction and _inode(self.path) != self._inode:
            # First the new one: while there is no file, this fails and the old one stays.
            connection, inode = self._connect()
            self._check(connection)
            self._connection.close()
            self._connection, self._inode = connection, inode
        return self._connection

    def _check(self, connection: sqlite3.Connection) -> None:
        with errors_as_sentences(self.path, self._remedy):
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if self._schema not in (None, schema):
            connection.close()
            raise OrchestraError(
                f"{self.path} was replaced by a file with schema {schema} instead of "
                f"{self._schema}: repeat the command"
            )

    def _connect(self) -> tuple[sqlite3.Connection, int]:
        with errors_as_sentences(self.path, self._remedy):
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw",  # a missing file is never created by the way
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
            )
            connection.execute("PRAGMA foreign_keys = ON")
            _define(connection, self._functions)
            return connection, _inode(self.path)

    def version(self) -> int:
        """The schema version written in the file; 0 in one that never got a schema."""
        return int(self.read("PRAGMA user_version")[0][0])


@contextlib.contextmanager
def errors_as_sentences(path: Path, remedy: str = REBUILT) -> Iterator[None]:
    """Turn what SQLite raises about the file at `path` into an OrchestraError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _primary_code(error)
        if code in _DAMAGED:
            raise DamagedError(
                f"{path} is damaged ({error}): move it away (mv {path} {path}.damaged) and {remedy}"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ConflictError(
                f"{path} stayed locked by another process for {BUSY_TIMEOUT_S:.0f} s: "
                "see who holds it with `fuser` and try again"
            ) from error
        if code == sqlite3.SQLITE_FULL or (code in _UNWRITABLE and is_disk_full(path.parent)):
            raise OrchestraError(
                f"cannot write {path}: the disk of {path.parent} is full; make room"
            ) from error
        if code in _UNWRITABLE:
            raise OrchestraError(
                f"cannot use {path} ({error}): check the permissions of it and its folder"
            ) from error
        if isinstance(error, sqlite3.OperationalError):  # a table is missing, say
            raise OrchestraError(
                f"cannot use {path} ({error}): if orchestra did not write it, move it away "
                f"(mv {path} {path}.damaged) and {remedy}"
            ) from error
        raise  # a mistake of ours


def _define(connection: sqlite3.Connection, functions: Mapping[str, Callable[..., Any]]) -> None:
    for name, function in functions.items():
        connection.create_function(name, -1, function)


def _read_copy(
    path: Path, sql: str, parameters: Sequence[Any], functions: Mapping[str, Callable[..., Any]]
) -> list[tuple[Any, ...]] | None:
    """The rows from a copy in memory; None if the file can't be copied."""
    import shutil
    import tempfile

    memory = Path("/dev/shm")
    try:
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            log = path.with_name(f"{path.name}-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name(log.name))
            with contextlib.closing(sqlite3.connect(copy)) as connection:
                _define(connection, functions)
                return connection.execute(sql, parameters).fetchall()
    except OSError:
        return None


def _primary_code(error: sqlite3.DatabaseError) -> int:
    """Extended result codes keep the primary one in their low byte."""
    return getattr(error, "sqlite_errorcode", -1) & 0xFF


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - on the path of every query
    except OSError:
        return -1
