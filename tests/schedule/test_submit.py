"""A run appears whole or not at all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.registry.store import open_registry
from orchestra.schedule import submit as module
from orchestra.schedule.remove import collect, remove_run
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import Submitted, staged
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError
from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace

EXAMPLE = Submission("example", given=(Given("launch.device", "cpu", "--cpu"),), argv=("x", "run"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
    made = init_workspace(tmp_path / "workspace")
    git(made, "init", "-q")
    git(made, "add", "-A")
    git(made, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x")
    return made


def git(workspace: Workspace, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=workspace.root, check=True, capture_output=True, text=True
    ).stdout


def refs(workspace: Workspace) -> str:
    return git(workspace, "for-each-ref", "refs/orchestra")


def submit(workspace: Workspace, submission: Submission = EXAMPLE) -> Submitted:
    with staged(workspace, submission) as run:
        return run.commit()


def folders(workspace: Workspace) -> set[str]:
    kept = {".snapshots"}
    return {path.name for path in workspace.runs.path.iterdir() if path.is_dir()} - kept


def test_a_submitted_run_is_complete_and_queued(workspace: Workspace) -> None:
    run = submit(workspace)
    assert folders(workspace) == {run.run_id}
    assert JobState.read(run.folder.job).state == RunState.QUEUED
    identity = json.loads(run.folder.identity.read_text())
    assert identity["argv"] == ["x", "run"] and identity["name"] == run.name
    provenance = json.loads(run.folder.provenance.read_text())
    assert workspace.runs.snapshot(provenance["code"]).is_dir()
    assert "packages" in provenance["environment"]
    assert run.folder.job.config.is_file() and run.folder.job.origins.is_file()
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run.run_id)
    assert (row.state, row.git_tree) == (RunState.QUEUED, provenance["tree"])
    assert run.run_id in refs(workspace)


OWN = """
from orchestra.upstreams.base import Upstream

class Mine(Upstream):
    stride, min_samples = 320, 400
    def layer_dims(self, key):
        return [8]
    def extract(self, wavs, lengths):
        raise NotImplementedError
"""


def test_the_file_of_an_own_upstream_is_in_the_snapshot_or_nothing_is(workspace: Workspace) -> None:
    file = workspace.root / "upstreams" / "mine.py"
    file.parent.mkdir()
    file.write_text(OWN)
    run = submit(workspace, replace(EXAMPLE, upstream="mine"))
    code = json.loads(run.folder.provenance.read_text())["code"]
    assert (workspace.runs.snapshot(code) / "upstreams" / "mine.py").read_text() == OWN
    assert 'source = "upstreams/mine.py"' in run.folder.job.config.read_text()
    with (workspace.root / ".gitignore").open("a") as ignored:
        ignored.write("mine.py\n")
    with pytest.raises(
        UsageError, match=r"snapshot has no upstreams/mine\.py, because git ignores"
    ):
        submit(workspace, replace(EXAMPLE, upstream="mine"))
    assert folders(workspace) == {run.run_id}


def test_names(workspace: Workspace) -> None:
    run = submit(workspace)
    assert run.name == f"example-fbank-{run.run_id[:4]}"
    named = Submission("example", given=EXAMPLE.given, name="mine")
    assert submit(workspace, named).name == "mine"
    with pytest.raises(ConflictError, match="'mine' is held by"):
        submit(workspace, named)
    assert len(folders(workspace)) == 2
    assert refs(workspace).count("/tree") == 2


def test_labels_given_with_the_command_outlive_the_registry(workspace: Workspace) -> None:
    labelled = replace(EXAMPLE, tags=("paper", "a"), remark=" first try ")
    run = submit(workspace, labelled)
    for _ in range(2):
        with open_registry(workspace.runs) as registry:
            row = registry.get_run(run.run_id)
        assert (row.name, row.tags, row.remark) == (run.name, ("a", "paper"), "first try")
        workspace.runs.registry.unlink()
    with pytest.raises(UsageError, match="--tag"):
        submit(workspace, replace(EXAMPLE, tags=("a b",)))


@pytest.mark.parametrize("where", ["plan", "capture", "_write"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OrchestraError("disk full")])
def test_nothing_is_left_wherever_it_fails(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(module, where, fail)
    with pytest.raises(type(error)):
        submit(workspace)
    assert folders(workspace) == set()
    assert refs(workspace) == ""
    with open_registry(workspace.runs) as registry:
        assert registry.list_runs() == []


def test_a_stage_that_is_not_committed_vanishes(workspace: Workspace) -> None:
    with staged(workspace, EXAMPLE):
        assert folders(workspace)
    assert folders(workspace) == set()
    assert refs(workspace) == ""


def test_an_interrupt_after_the_commit_keeps_the_run(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), staged(workspace, EXAMPLE) as run:
        kept = run.commit()
        raise KeyboardInterrupt
    assert folders(workspace) == {kept.run_id}
    assert kept.run_id in refs(workspace)


def test_gc_removes_what_a_killed_command_left_and_spares_runs(workspace: Workspace) -> None:
    run = submit(workspace)
    code = json.loads(run.folder.provenance.read_text())["code"]
    half = workspace.runs.path / ".new-abcd2345"
    half.mkdir()
    git(workspace, "update-ref", "refs/orchestra/abcd2345/base", "HEAD")
    git(workspace, "update-ref", "refs/orchestra/elsewhere/base", "HEAD")
    unused = workspace.runs.snapshot("0" * 40)
    unused.mkdir()
    garbage = collect(workspace)
    assert set(garbage.folders) == {half, unused}
    assert garbage.refs == ("abcd2345",)
    assert "abcd2345" not in refs(workspace)
    assert "elsewhere" in refs(workspace), "another workspace's runs are not ours to forget"
    assert workspace.runs.snapshot(code).is_dir()
    assert folders(workspace) == {run.run_id}


def test_gc_takes_in_a_run_that_was_killed_before_it_got_its_row(workspace: Workspace) -> None:
    run = submit(workspace)
    code = json.loads(run.folder.provenance.read_text())["code"]
    with open_registry(workspace.runs) as registry:
        registry.delete_run(run.run_id)
    garbage = collect(workspace)
    assert garbage.folders == () and run.run_id in garbage.notes[0]
    assert workspace.runs.snapshot(code).is_dir() and run.run_id in refs(workspace)
    with open_registry(workspace.runs) as registry:
        assert registry.get_run(run.run_id).state == RunState.QUEUED
    assert collect(workspace).notes == ()


def test_gc_spares_the_code_of_a_folder_that_can_not_be_taken_in(workspace: Workspace) -> None:
    run = submit(workspace)
    with open_registry(workspace.runs) as registry:
        registry.delete_run(run.run_id)
    run.folder.identity.write_text("{")
    garbage = collect(workspace)
    assert garbage.folders == () and str(run.folder.path) in garbage.notes[0]


def test_a_broken_repository_is_a_sentence_and_leaves_nothing(workspace: Workspace) -> None:
    (workspace.root / ".git" / "HEAD").write_text("nonsense")
    with pytest.raises(OrchestraError):
        submit(workspace)
    assert {path.name for path in workspace.runs.path.glob(".new-*")} == set()
    assert folders(workspace) == set()


def test_a_default_name_that_is_held_is_drawn_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(workspace)

    def names(task: str, upstream: str, run_id: str) -> Iterator[str]:
        yield from (first.name, first.run_id, "free")

    monkeypatch.setattr(module, "default_names", names)
    assert submit(workspace).name == "free"


def test_removing_a_queued_run(workspace: Workspace) -> None:
    run = submit(workspace)
    remove_run(workspace, run.run_id)
    assert folders(workspace) == set()
    assert refs(workspace) == ""
    with open_registry(workspace.runs) as registry:
        assert registry.list_runs() == []
        assert registry.transition(submit(workspace).key, {RunState.QUEUED}, RunState.STARTING)
    (at_work,) = folders(workspace)
    with pytest.raises(ConflictError, match="is at work"):
        remove_run(workspace, at_work)
    assert folders(workspace) == {at_work}
