"""Name, tags and note of a run: changed at any time, told as events, kept in the run folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule.labels import relabel
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.labels import Labels
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With the runs r1 (at work) and r2."""
    made = Workspace(tmp_path, RunsFolder(tmp_path / "runs"))
    with open_registry(made.runs) as registry:
        for run_id in ("r1", "r2"):
            made.runs.run(run_id).path.mkdir(parents=True)
            registry.create_run(NewRun(run_id, f"name-{run_id}", "asr", "fbank", 0.0, 10, "0"))
        registry.transition(JobKey("r1"), {RunState.QUEUED}, RunState.RUNNING)
    return made


def events(workspace: Workspace, run_id: str = "r1") -> list[str]:
    with open_registry(workspace.runs) as registry:
        return [event.text for event in registry.events(run_id) if event.kind == "label"]


def test_each_change_is_made_told_and_kept_in_the_folder(workspace: Workspace) -> None:
    done = relabel(workspace, "r1", name="best", add=["paper", "a"], remark=" look \n")
    assert (done.name, done.tags, done.remark) == ("best", ("a", "paper"), "look")
    assert done.changes == ("renamed from name-r1 to best", "tagged a, paper", "note: look")
    assert events(workspace) == list(done.changes)
    assert Labels.read(workspace.runs.run("r1")) == Labels("best", ("a", "paper"), "look")
    with open_registry(workspace.runs) as registry:
        row = registry.run_named("best")
    assert row is not None and (row.tags, row.remark) == (("a", "paper"), "look")
    done = relabel(workspace, "r1", drop=["a", "never had"], remark="")
    assert done.changes == ("untagged a", "note removed")
    assert (done.name, done.tags, done.remark) == ("best", ("paper",), "")
    assert Labels.read(workspace.runs.run("r1")) == Labels("best", ("paper",), "")


def test_what_it_has_already_is_no_change(workspace: Workspace) -> None:
    relabel(workspace, "r1", add=["a"])
    before = events(workspace)
    assert relabel(workspace, "r1", name="name-r1", add=["a"], drop=["b"]).changes == ()
    assert relabel(workspace, "r1").tags == ("a",)
    assert events(workspace) == before


@pytest.mark.parametrize(
    ("labels", "kind", "text"),
    [
        ({"name": "name-r2"}, ConflictError, "held by run r2"),
        ({"name": "r2"}, ConflictError, "held by run r2"),
        ({"name": "a b"}, UsageError, "--name"),
        ({"add": ["ok", "a,b"]}, UsageError, "--tag 'a,b'"),
        ({"add": [""]}, UsageError, "--tag ''"),
        ({"remark": "x" * 2001}, UsageError, "2001 characters"),
        ({"remark": "\udce4"}, UsageError, "UTF-8"),
    ],
)
def test_what_is_refused_changes_nothing(
    workspace: Workspace, labels: dict[str, object], kind: type[OrchestraError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        relabel(workspace, "r1", **{"add": ["more"], **labels})  # type: ignore[arg-type]
    with open_registry(workspace.runs) as registry:
        row = registry.get_run("r1")
    assert (row.name, row.tags, row.remark, events(workspace)) == ("name-r1", (), "", [])


def test_a_run_that_is_not_there(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError):
        relabel(workspace, "r9", add=["a"])


def test_a_folder_that_cannot_be_written_keeps_the_registry_as_it_was(workspace: Workspace) -> None:
    workspace.runs.run("r1").path.rmdir()
    with pytest.raises(OrchestraError, match="cannot write"):
        relabel(workspace, "r1", add=["a"])
    with open_registry(workspace.runs) as registry:
        assert registry.get_run("r1").tags == ()
    assert events(workspace) == []


def test_two_at_once_lose_neither_tag(workspace: Workspace) -> None:
    def tag(prefix: str) -> None:
        for number in range(10):
            relabel(workspace, "r1", add=[f"{prefix}{number}"])

    threads = [threading.Thread(target=tag, args=(prefix,)) for prefix in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{prefix}{number}" for prefix in "ab" for number in range(10)}
    assert set(relabel(workspace, "r1").tags) == expected
    assert set(Labels.read(workspace.runs.run("r1")).tags) == expected
