"""What the monitor asks of the registry once a second, and filters that look at every run."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable

from orchestra.config.compose import Request, compose
from orchestra.registry.configs import config_document
from orchestra.registry.store import open_registry
from orchestra.schedule.selection import Runs, selection
from orchestra.wire.folders import RunsFolder
from tests.benchmarks.cli_start import ROWS, fill_registry
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import fresh_workspace

SHOWN = 1_000
_REPEATS = 9


def measure() -> list[Row]:
    with fresh_workspace() as workspace:
        folder = RunsFolder(workspace / "runs")
        fill_registry(folder)
        _add_configs(folder, config_document(compose(Request(workspace, "example")).toml))
        how = f"{ROWS:,} runs, one connection, median of {_REPEATS}"
        with open_registry(folder) as registry:
            runs = Runs(registry, folder)
            everything = selection()
            asked: dict[str, tuple[Callable[[], object], str]] = {
                f"the newest {SHOWN:,} and all unfinished runs": (
                    lambda: runs.newest_and_unfinished(everything, limit=SHOWN),
                    "<= 10 ms",
                ),
                "runs by state": (registry.counts_by_state, ""),
                "whether anything has changed": (registry.generation, ""),
                "a word that no run has": (lambda: runs.select(selection("nowhere")), ""),
                "a value that no config has": (
                    lambda: runs.select(selection("cfg.optim.lr>1000")),
                    "",
                ),
            }
            return [
                Row(what, f"{_median_ms(question):.2f} ms", bar, how)
                for what, (question, bar) in asked.items()
            ]


def _add_configs(folder: RunsFolder, document: str | None) -> None:
    with sqlite3.connect(folder.registry) as connection:
        connection.execute("INSERT INTO configs SELECT id, config_sha256, ? FROM runs", (document,))
        connection.execute("UPDATE runs SET state = 'completed' WHERE sequence % 1000 != 0")


def _median_ms(question: Callable[[], object]) -> float:
    times_ms = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        question()
        times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms)
