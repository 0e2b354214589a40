"""A workspace in a fresh git repository and `orchestra` run as a process in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.workspace import init_workspace
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]  # fixtures of the tests here

#: Ten steps on one CPU rank, no restarts: the shortest real run.
SHORT = ("example", "--cpu", "--preset", "debug")


class Cli:
    """`orchestra` in one workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORCH")},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.fspath(Path(__file__).parents[2]),
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestra", *words]

    def __call__(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=cwd or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def ok(self, *words: str) -> str:
        """Its stdout; the test fails unless it exits with 0."""
        done = self(*words)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words), cwd=self.root, env=self.environment, text=True, **options
        )


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout


def make_cli(root: Path) -> Cli:
    init_workspace(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "empty workspace")
    return Cli(root)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = make_cli(tmp_path / "workspace")
    yield made
    stop_all(made)


def stop_all(cli: Cli) -> None:
    """Whatever a failed test has left at work."""
    if not (cli.root / "runs").is_dir():
        return
    for row in cli.json("ls"):
        cli("stop", row["id"], "--now")
