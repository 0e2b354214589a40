"""The schema, as sqlite-utils migrations. Nothing else may import sqlite_utils.

Imported only when a file has to be made or brought up to date: sqlite-utils takes 100 ms to load.
One function per version; a published one never changes. tests/registry/fixtures keeps a file of
each version.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from orchestra.registry.database import BUSY_TIMEOUT_S, errors_as_sentences
from orchestra.wire.errors import UsageError

_MIGRATIONS = Migrations("orchestra.registry")

_OWNER = """
    supervisor_pid INTEGER,
    supervisor_start_ticks INTEGER,
    boot_id TEXT,
    machine_id TEXT,
    host TEXT"""


@_MIGRATIONS()
def v1(database: Database) -> None:
    """Runs, evaluations, attempts, checkpoints, events."""
    database.execute(
        f"""CREATE TABLE runs (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '',
            task TEXT NOT NULL,
            upstream TEXT NOT NULL,
            created_at REAL NOT NULL,
            queued_at REAL NOT NULL,
            started_at REAL,
            ended_at REAL,
            step INTEGER NOT NULL DEFAULT 0,
            max_steps INTEGER,
            loss REAL,
            audio_s_per_s REAL,
            eta_s REAL,
            score REAL,
            best_score REAL,
            metric TEXT,
            attempt INTEGER NOT NULL DEFAULT 0,
            devices TEXT NOT NULL DEFAULT '[]',
            git_commit TEXT,
            git_branch TEXT,
            git_dirty INTEGER,
            git_tree TEXT,
            config_sha256 TEXT NOT NULL,
            {_OWNER}
        )"""
    )
    database.execute("CREATE INDEX runs_by_state ON runs (state, sequence)")
    database.execute(
        f"""CREATE TABLE evaluations (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '',
            split TEXT NOT NULL,
            checkpoint TEXT NOT NULL,
            checkpoint_step INTEGER,
            metrics TEXT NOT NULL DEFAULT '{{}}',
            created_at REAL NOT NULL,
            queued_at REAL NOT NULL,
            started_at REAL,
            ended_at REAL,
            {_OWNER},
            PRIMARY KEY (run_id, number)
        )"""
    )
    database.execute("CREATE INDEX evaluations_by_state ON evaluations (state)")
    # evaluation 0: the attempt of the run itself; document: its attempt.json
    database.execute(
        """CREATE TABLE attempts (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            evaluation INTEGER NOT NULL,
            number INTEGER NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (run_id, evaluation, number)
        )"""
    )
    database.execute(
        """CREATE TABLE checkpoints (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            step INTEGER NOT NULL,
            path TEXT NOT NULL,
            score REAL,
            metric TEXT,
            created_at REAL NOT NULL,
            PRIMARY KEY (run_id, step)
        )"""
    )
    database.execute(
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            evaluation INTEGER,
            time_s REAL NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL
        )"""
    )
    database.execute("CREATE INDEX events_by_run ON events (run_id, id)")


@_MIGRATIONS()
def v2(database: Database) -> None:
    """The queue. Columns with defaults only: a process of version 1 that is at work goes on."""
    for table in ("runs", "evaluations"):
        for column in (
            "priority INTEGER NOT NULL DEFAULT 0",
            "gpus INTEGER",  # 0: on the CPU; NULL: a job of version 1, whose config tells
            "gpu_ids TEXT NOT NULL DEFAULT '[]'",
            "after TEXT NOT NULL DEFAULT ''",
        ):
            database.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


@_MIGRATIONS()
def v3(database: Database) -> None:
    """Labels, and the frozen configs to filter by. A process of version 2 goes on."""
    for column in ("tags TEXT NOT NULL DEFAULT '[]'", "remark TEXT NOT NULL DEFAULT ''"):
        database.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    # Apart from the rows, which stay small: whoever lists runs reads no config. One whose sha256 is
    # not (or no longer) the run's is none: a process of version 2 changes that of the run alone.
    database.execute(
        """CREATE TABLE configs (
            run_id TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
            sha256 TEXT NOT NULL,
            document TEXT NOT NULL
        )"""
    )


@_MIGRATIONS()
def v4(database: Database) -> None:
    """Members of a parent run. A process of version 3 goes on."""
    for column in ("parent TEXT NOT NULL DEFAULT ''", "member TEXT NOT NULL DEFAULT ''"):
        database.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    database.execute("CREATE INDEX runs_by_parent ON runs (parent) WHERE parent != ''")


#: How many migrations there are above.
VERSION = 4


def create(path: Path) -> None:
    """Make a new file, readable by its owner alone, with the newest schema.

    Raises:
        FileExistsError: there is one.
        OrchestraError: it can't be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_connect(path)) as connection, errors_as_sentences(path):
        connection.execute("PRAGMA journal_mode = WAL")
    migrate(path)


def migrate(path: Path) -> None:
    """Bring the file up to date in one transaction; two processes may try at once.

    Raises:
        UsageError: it is a database of something else.
        OrchestraError: it can't be written.
    """
    with closing(_connect(path)) as connection, errors_as_sentences(path):
        # Taken before sqlite-utils looks: its own transactions are deferred.
        connection.execute("BEGIN IMMEDIATE")
        database = Database(connection)
        if database.table_names() and not _MIGRATIONS.applied(database):
            raise UsageError(f"{path} is not a registry of orchestra: move it away")
        _MIGRATIONS.apply(database)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
