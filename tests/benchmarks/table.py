"""Rows of the benchmark table, and how a command is timed as a whole process."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured number; `bar` is what was asked for, empty for a number without one."""

    what: str
    value: str
    bar: str
    how: str


def print_table(rows: Sequence[Row]) -> None:
    """A Markdown table on stdout, ready for the README."""
    print("| what | measured | bar | how |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.value} | {row.bar} | {row.how} |")


def process_ms(
    command: Sequence[str],
    *,
    cwd: Path,
    repeats: int = 15,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Median wall time of `command` as a new process, in milliseconds; two runs warm the cache."""
    times_ms = []
    for repeat in range(repeats + 2):
        started = time.perf_counter()
        subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
        if repeat >= 2:
            times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms)
