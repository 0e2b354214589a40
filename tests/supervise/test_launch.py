"""What an attempt is started with runs the snapshot, whatever the folder it is started in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.supervise.launch import code_environment, new_tag
from orchestra.wire.folders import Job


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A snapshot and a workspace that was edited since."""
    for name in ("snapshot", "workspace"):
        package = tmp_path / name / "orchestra"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "told.py").write_text(f"print({name!r})")
    return tmp_path / "snapshot", tmp_path / "workspace"


def told(workspace: Path, environment: dict[str, str]) -> str:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-m", "orchestra.told"],
        cwd=workspace,
        env={**others, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_python_m_runs_the_snapshot(folders: tuple[Path, Path]) -> None:
    snapshot, workspace = folders
    assert told(workspace, code_environment(snapshot, workspace, threads=1)) == "snapshot"


def test_control_python_m_would_import_the_live_code(folders: tuple[Path, Path]) -> None:
    snapshot, workspace = folders
    environment = code_environment(snapshot, workspace, threads=1)
    del environment["PYTHONSAFEPATH"]
    assert told(workspace, environment) == "workspace"


def test_all_tags_of_a_job_have_one_length(tmp_path: Path) -> None:
    """One is put in the place of another in the memory that procfs shows."""
    for job in (Job("train", tmp_path / "r1"), Job("evaluate", tmp_path / "r1/evaluations/0012")):
        tags = [new_tag(job, attempt) for attempt in (0, 1, 9_999)]
        assert len(set(tags)) == 3
        assert len({len(tag) for tag in tags}) == 1
