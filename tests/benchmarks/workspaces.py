"""Throw-away workspaces and the commands that are timed in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestra.wire.folders import RunFolder

ORCHESTRA = str(Path(sys.executable).parent / "orchestra")


@contextmanager
def fresh_workspace() -> Iterator[Path]:
    """An initialised workspace in a git repository with one commit."""
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        root = Path(folder) / "workspace"
        orchestra(Path(folder), "init", str(root))
        for command in (
            ["git", "init", "--quiet"],
            ["git", "add", "."],
            ["git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "--quiet", "-m", "."],
        ):
            subprocess.run(command, cwd=root, check=True)
        yield root


def orchestra(cwd: Path, *arguments: str) -> str:
    """stdout of an orchestra command that must succeed."""
    done = subprocess.run(
        [ORCHESTRA, *arguments], cwd=cwd, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"orchestra {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def plain_copy(workspace: Path, run_id: str) -> tuple[list[str], RunFolder]:
    """The run's own plain torchrun command on a copy of its folder without its history."""
    command = list(show(workspace, run_id)["command"])
    source = workspace / "runs" / run_id
    copy = workspace / "runs" / f"{run_id}-plain"
    copy.mkdir()
    shutil.copy(source / "config.toml", copy)
    return [part.replace(str(source), str(copy)) for part in command], RunFolder(copy)


def show(cwd: Path, run: str) -> dict[str, Any]:
    """`orchestra show RUN --json`."""
    document: dict[str, Any] = json.loads(orchestra(cwd, "show", run, "--json"))
    return document
