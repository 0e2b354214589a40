from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from orchestra.config.presets import list_presets
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.workspace import find_workspace, init_workspace


def test_found_from_any_subfolder(tmp_path: Path) -> None:
    init_workspace(tmp_path / "lab")
    deep = tmp_path / "lab" / "tasks" / "asr" / "notes"
    deep.mkdir(parents=True)
    workspace = find_workspace(deep)
    assert workspace.root == tmp_path / "lab"
    assert workspace.runs.path == tmp_path / "lab" / "runs"


def test_the_nearest_one_wins(tmp_path: Path) -> None:
    init_workspace(tmp_path)
    init_workspace(tmp_path / "inner")
    assert find_workspace(tmp_path / "inner" / "presets").root == tmp_path / "inner"


def test_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_workspace(tmp_path)
    monkeypatch.chdir(tmp_path / "tasks")
    assert find_workspace().root == tmp_path


def test_tasks_alone_are_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    with pytest.raises(NotFoundError, match="orchestra init DIR"):
        find_workspace(tmp_path)


def test_runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_workspace(tmp_path)
    monkeypatch.setenv("ORCHESTRA_RUNS_DIR", str(tmp_path / "disk1"))
    assert find_workspace(tmp_path).runs.path == tmp_path / "disk1"
    chosen = find_workspace(tmp_path, tmp_path / "disk2").runs.path
    assert chosen == tmp_path / "disk2"  # the option beats the environment
    monkeypatch.chdir(tmp_path)
    assert find_workspace(tmp_path, Path("disk3")).runs.path == tmp_path / "disk3"


def test_no_snapshot_takes_in_the_corpora_of_the_presets(tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path)
    ignored = (tmp_path / ".gitignore").read_text().splitlines()
    for preset in list_presets(workspace.root):
        root = tomllib.loads(preset.path.read_text()).get("data", {}).get("root")
        assert root is None or f"/{Path(root).parts[0]}/" in ignored, preset.name


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    init_workspace(tmp_path)
    init_workspace(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_init_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        init_workspace(tmp_path / "file")
    (tmp_path / "tasks").write_text("")
    with pytest.raises(UsageError, match="tasks"):
        init_workspace(tmp_path)


def test_a_current_folder_that_was_removed_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotFoundError, match="the current folder was removed"):
        find_workspace()
