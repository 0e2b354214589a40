"""What `ls` shows, and that looking makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule import listing
from orchestra.schedule.listing import find_run, health, list_runs
from orchestra.wire.errors import NotFoundError
from orchestra.wire.folders import RunsFolder
from orchestra.workspace import Workspace
from tests.chaos.sandbox import Sandbox


def test_looking_into_an_empty_runs_folder_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    workspace = Workspace(tmp_path, RunsFolder(tmp_path / "runs"))
    assert list_runs(workspace, states=None, limit=None) == []
    with pytest.raises(NotFoundError, match="no runs yet"):
        find_run(workspace, "@last")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_lost_registry_is_made_again(sandbox: Sandbox) -> None:
    sandbox.add_run()
    registry = sandbox.workspace.runs.registry
    registry.unlink()
    list_runs(sandbox.workspace, states=None, limit=None)
    assert registry.is_file()


def test_a_run_without_its_supervisor_is_told(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.start(sandbox.add_run(hold=True, nproc=1))
    sandbox.held(job)
    key = JobKey(job.run.id)
    (row,) = list_runs(sandbox.workspace, states=None, limit=None)
    assert health(sandbox.workspace, key, row.state) == ""
    with monkeypatch.context() as full:
        full.setattr(listing, "is_disk_full", lambda folder: folder == sandbox.workspace.runs.path)
        assert "is full" in health(sandbox.workspace, key, row.state)
    sandbox.kill_supervisor(job)
    assert "supervisor died" in health(sandbox.workspace, key, row.state)
