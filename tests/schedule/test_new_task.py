"""A task from the template: named rightly, nothing overwritten, what it hides is said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from orchestra.config.presets import list_presets
from orchestra.schedule import new_task as module
from orchestra.schedule.new_task import new_task
from orchestra.tasks import discover
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError
from orchestra.workspace import Workspace, init_workspace

CORPORA = {
    "digits": None,
    "speech_commands": "ks",
    "ks": "ks",  # as if it had one of its own name
    "iemocap": "er",
}
"""Corpora, and whose they are."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Without programs of the training plane: tests/cli/test_task.py has the corpus made."""

    def data(program: str, *given: object) -> subprocess.CompletedProcess[str]:
        corpora = [{"name": name, "task": task} for name, task in CORPORA.items()]
        return subprocess.CompletedProcess([], 0, json.dumps({"corpora": corpora}), "")

    monkeypatch.setattr(module, "_data", data)
    return init_workspace(tmp_path)


def contents(root: Path) -> dict[str, bytes | None]:
    """Files with what is in them, and folders."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


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
    assert info.summary() == "which class does a recording belong to?"
    assert "mine" in {preset.name for preset in list_presets(root)}
    assert made.notes == []
    assert not any(b"newtask" in path.read_bytes() for path in made.files)


@pytest.mark.parametrize("name", ["Mine", "my-task", "3ways", "class", "", "../mine", "a b"])
def test_what_can_not_be_a_name(workspace: Workspace, name: str) -> None:
    before = contents(workspace.root)
    with pytest.raises(UsageError, match="can't be a task's name: small letters, digits and _"):
        new_task(workspace, name)
    assert contents(workspace.root) == before


@pytest.mark.parametrize(
    ("name", "near"),
    [("My-Task", "my_task"), ("../mine", "mine"), ("class", "class_task"), ("a  b", "a_b")],
)
def test_a_name_that_can_be_had_is_told(workspace: Workspace, name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no word of Python's; '{near}' can$"):
        new_task(workspace, name)
    new_task(workspace, near)


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("digits", "that orchestra reads"),
        ("iemocap", "of task 'er'"),
        ("speech_commands", "of task 'ks'"),  # another name of the task, too
    ],
)
def test_a_corpus_that_is_there_is_not_hidden(workspace: Workspace, name: str, whose: str) -> None:
    before = contents(workspace.root)
    with pytest.raises(UsageError, match=f"'{name}' is the name of a corpus {whose}; name the"):
        new_task(workspace, name)
    assert contents(workspace.root) == before


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
    (note,) = new_task(workspace, "emotion").notes
    assert note == "'emotion' meant the task 'er' here, and now means the new one"
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
