"""The uninterrupted runs that interrupted ones are compared with, and the table of the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestra.wire.folders import Job
from tests.exactness.launching import launch, log_of, write_job

Straight = Callable[..., Job]

CELL = "cell"
"""The property of a test's report that names its line of the table."""


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """Gives a run of so many ranks that nothing disturbs; each is run once per process."""
    done: dict[str, Job] = {}

    def run(ranks: int, alter: str = "", **tables: dict[str, Any]) -> Job:
        key = f"{ranks} {alter} {tables}"
        if key not in done:
            job = write_job(tmp_path_factory.mktemp("straight") / "run", **tables)
            assert launch(job, ranks=ranks, alter=alter, torchrun=False) == 0, log_of(job)
            done[key] = job
        return done[key]

    return run


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each cell of the grid."""
    lines = sorted(
        (str(value), outcome)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == CELL and report.when == "call"
    )
    if lines:
        terminalreporter.section("interrupted == uninterrupted, bit for bit")
    for cell, outcome in lines:
        terminalreporter.write_line(f"{cell:<60} {outcome}")
