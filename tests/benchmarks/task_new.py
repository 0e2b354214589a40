"""`orchestra task new`: one command to a task whose generated test passes."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA, fresh_workspace

REPEATS = 3


def measure() -> list[Row]:
    made, tested = [], []
    before_s = _processor_s()
    with fresh_workspace() as workspace:
        for number in range(REPEATS):
            name = f"mine{number}"
            made.append(_seconds(workspace, [str(ORCHESTRA), "task", "new", name]))
            test = f"tests/tasks/test_{name}.py"
            tested.append(_seconds(workspace, [sys.executable, "-m", "pytest", "-q", test]))
    whole_s = statistics.median(map(sum, zip(made, tested, strict=True)))
    return [
        Row(
            "`orchestra task new` to a passing test",
            f"{whole_s:.1f} s ({statistics.median(made):.1f} s to make it and its tiny corpus, "
            f"{statistics.median(tested):.1f} s for the test)",
            "<= 30 s",
            f"median of {REPEATS}; {(_processor_s() - before_s) / REPEATS:.1f} s of one core each",
        )
    ]


def _seconds(workspace: Path, command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=workspace, check=True, capture_output=True)
    return time.perf_counter() - started


def _processor_s() -> float:
    """Of all children that have ended: what a busy machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
