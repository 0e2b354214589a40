"""How long `orchestra --help` and `orchestra ls` take as new processes."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from tests.benchmarks.table import Row, process_ms
from tests.benchmarks.workspaces import ORCHESTRA, fresh_workspace

ROWS = 100_000


def measure() -> list[Row]:
    with fresh_workspace() as workspace:
        fill_registry(RunsFolder(workspace / "runs"))
        bare_ms = process_ms([sys.executable, "-c", "pass"], cwd=workspace)
        rows = []
        for arguments in (["--help"], ["ls"]):
            took_ms = process_ms([ORCHESTRA, *arguments], cwd=workspace)
            rows.append(
                Row(
                    f"`orchestra {arguments[0]}`"
                    + (f", {ROWS:,} runs" if arguments[0] == "ls" else ""),
                    f"{took_ms:.0f} ms ({took_ms / bare_ms:.1f} x a bare interpreter)",
                    "<= 120 ms",
                    "new process, warm cache, median of 15",
                )
            )
        return rows


def fill_registry(runs: RunsFolder) -> None:
    """`ROWS` runs: one through the registry, the others copied from its row."""
    runs.path.mkdir(exist_ok=True)
    with open_registry(runs) as registry:
        registry.create_run(
            NewRun("aaaaaaaa", "first", "asr", "fbank", 1_700_000_000.0, 1000, "0" * 64)
        )
    _copy_rows(runs.registry)


def _copy_rows(path: Path) -> None:
    database = sqlite3.connect(path)
    with database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
        new = {
            "id": "printf('r%07d', n)",
            "name": "'run-' || n",
            "created_at": "created_at + n",
            "sequence": "sequence + n",
        }
        values = ", ".join(new.get(column, column) for column in columns)
        database.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
            f"WHERE n < {ROWS - 1}) INSERT INTO runs ({', '.join(columns)}) "
            f"SELECT {values} FROM runs, numbers WHERE id = 'aaaaaaaa'"
        )
    database.close()
