from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestra.provenance.client import Snapshot, start_snapshot
from orchestra.wire.folders import RunsFolder
from orchestra.workspace import init_workspace


@dataclass(frozen=True)
class Lab:
    """A repository with a workspace in it (or at its top)."""

    top: Path
    root: Path

    @property
    def runs(self) -> RunsFolder:
        return RunsFolder(self.root / "runs")

    def git(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.top, input=stdin, capture_output=True, check=True
        )
        return os.fsdecode(done.stdout).strip()

    def write(self, path: str, text: str | bytes = "x = 1\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def commit(self, message: str = "change") -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def snapshot(self, run_id: str = "run1") -> Snapshot:
        patch = self.top.parent / f"{run_id}.diff"
        return start_snapshot(self.root, self.runs.path, run_id, patch).result()


@pytest.fixture(autouse=True)
def own_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests, and a git that knows its author."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@localhost")


def make_lab(top: Path, prefix: str) -> Lab:
    root = top / prefix
    init_workspace(root)
    lab = Lab(top, root)
    # A stand-in for the package keeps the installed one out of these small trees.
    lab.write("orchestra/tasks.py")
    lab.git("init", "-q", "-b", "main")
    return lab


def committed_lab(top: Path, prefix: str) -> Lab:
    lab = make_lab(top, prefix)
    lab.write("tasks/mine/config.py", "version = 1\n")
    (top / "elsewhere.txt").write_text("not code of a workspace below\n")
    lab.commit("first")
    return lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A workspace with one commit, below its repository's top."""
    return committed_lab(tmp_path / "repo", "speech/lab")


@pytest.fixture(params=["", "speech/lab"], ids=["at-top", "below-top"])
def any_lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """A workspace with one commit, at its repository's top and below it."""
    return committed_lab(tmp_path / "repo", request.param)
