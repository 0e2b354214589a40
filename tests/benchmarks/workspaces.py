"""Throw-away workspaces and the commands that are timed in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


def show(cwd: Path, run: str) -> dict[str, Any]:
    """`orchestra show RUN --json`."""
    document: dict[str, Any] = json.loads(orchestra(cwd, "show", run, "--json"))
    return document
