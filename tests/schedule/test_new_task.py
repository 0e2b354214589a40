"""A task from the template: named rightly, nothing overwritten, what it hides is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.presets import list_presets
from orchestra.schedule import new_task as module
from orchestra.schedule.new_task import new_task
from orchestra.tasks import discover
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError
from orchestra.workspace import Workspace, init_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Without the tiny corpus: tests/cli/test_task.py has it made."""
    monkeypatch.setattr(module, "_make", lambda *given: None)
    return init_workspace(tmp_path)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_a_task_with_a_preset_and_a_test(workspace: Workspace) -> None:
    made = new_task(workspace, "mine")
    root = workspace.root
    assert {str(path.relative_to(root)) for path in made.files} == {
        *(f"tasks/mine/{name}.py" for name in ("config", "task", "prepare", "tiny")),
        "tasks/mine/README.md",
        "presets/mine.toml",
        "tests/tasks/test_mine.py",
    }
    info = discover(root)["mine"]
    assert info.config_model()().kind == "mine"
    assert info.summary() == "mine: which class does a recording belong to?"
    assert "mine" in {preset.name for preset in list_presets(root)}
    assert made.notes == []
    assert not any(b"newtask" in path.read_bytes() for path in made.files)


@pytest.mark.parametrize("name", ["Mine", "my-task", "3ways", "class", "", "../mine", "a b"])
def test_what_can_not_be_a_name(workspace: Workspace, name: str) -> None:
    before = contents(workspace.root)
    with pytest.raises(UsageError, match="can't be a task's name: small letters, digits and _"):
        new_task(workspace, name)
    assert contents(workspace.root) == before


def test_a_corpus_that_orchestra_reads_itself(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="'digits' is the name of a corpus"):
        new_task(workspace, "digits")


@pytest.mark.parametrize(
    "there", ["tasks/mine/x", "presets/mine.toml", "tests/tasks/test_mine.py", "data/mine/x"]
)
def test_nothing_is_overwritten(workspace: Workspace, there: str) -> None:
    path = workspace.root / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    before = contents(workspace.root)
    with pytest.raises(ConflictError, match=r"mine.* exists: name another task"):
        new_task(workspace, "mine")
    assert contents(workspace.root) == before


def test_a_name_that_differs_in_a_hyphen_is_taken(workspace: Workspace) -> None:
    folder = workspace.root / "tasks" / "My-Task"
    folder.mkdir()
    (folder / "config.py").write_text("")
    with pytest.raises(ConflictError, match="there is a task 'My-Task'"):
        new_task(workspace, "my_task")


def test_what_it_hides_is_said(workspace: Workspace) -> None:
    (note,) = new_task(workspace, "speech_commands").notes
    assert note == "'speech_commands' meant the task 'ks' here, and now means the new one"
    assert new_task(workspace, "ks").notes == [
        "it hides the built-in task 'ks' in this workspace",
        "it hides the built-in preset 'ks' in this workspace",
    ]


def test_a_failed_write_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "tests").write_text("a file")
    before = contents(workspace.root)
    with pytest.raises(OrchestraError, match=r"cannot write .*tests"):
        new_task(workspace, "mine")
    assert contents(workspace.root) == before
