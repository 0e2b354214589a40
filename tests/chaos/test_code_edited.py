"""Code edited between two attempts: the restart runs the code that was submitted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.folders import RunsFolder
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import SHORT, Cli, git, make_cli, stop_all

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A workspace with its own copy of the example task, committed."""
    made = make_cli(tmp_path / "workspace")
    shutil.copytree(builtin_folder() / "tasks" / "example", made.root / "tasks" / "example")
    edit(made, "1")
    git(made.root, "add", "-A")
    git(made.root, "commit", "-q", "-m", "a task that tells its version")
    yield made
    stop_all(made)


def edit(cli: Cli, version: str) -> None:
    """Make the task's score tell `version`."""
    path = cli.root / "tasks" / "example" / "task.py"
    original = (builtin_folder() / "tasks" / "example" / "task.py").read_text()
    told = original.replace('return {"accuracy":', f'return {{"version": {version}, "accuracy":')
    assert told != original
    path.write_text(told)


def first_rank_with_a_checkpoint(cli: Cli, run: str) -> int:
    """The pid of rank 0 once the run has something to restart from."""
    runs = RunsFolder(cli.root / "runs")

    def rank() -> int | None:
        with open_registry(runs) as registry:
            (attempt, *_) = registry.attempts(JobKey(run)) or (None,)
            saved = registry.checkpoints(run)
        return attempt.ranks[0] if saved and attempt and attempt.ranks else None

    return int(wait_for("a checkpoint", rank))


@pytest.mark.chaos
@pytest.mark.fault("code edited")
def test_a_restart_runs_the_submitted_code(cli: Cli) -> None:
    long = ("--set", "train.max_steps=20", "--set", "checkpoint.every=5")
    patient = ("--set", "launch.max_restarts=1", "--set", "task.delay_s=0.1")
    run = cli.ok("run", *SHORT, *long, *patient, "--detach", "-q").strip()
    rank = first_rank_with_a_checkpoint(cli, run)
    edit(cli, "2")
    os.kill(rank, signal.SIGKILL)
    cli.ok("wait", run)
    document = cli.json("show", run)
    assert [attempt["state"] for attempt in document["attempts"]] == ["crashed", "completed"]
    assert "SIGKILL" in document["attempts"][0]["reason"]
    assert document["attempts"][1]["first_step"] >= 5
    assert document["evaluations"][0]["metrics"]["version"] == 1
    # Control: the edit does take effect in a run that is submitted after it.
    cli.ok("run", *SHORT, "--name", "after", "--set", "train.max_steps=1")
    assert cli.json("show", "after")["evaluations"][0]["metrics"]["version"] == 2
    assert cli.json("show", "after")["git"]["dirty"]
