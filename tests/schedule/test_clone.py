"""A clone is a new run with the same config, but for what was changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.clone import clone, clone_submission
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import Submitted, plan, staged
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace
from tests.schedule.test_initial import add_checkpoint

CPU = (Given("launch.device", "cpu", "--cpu"),)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """With a task of its own, `mine`."""
    monkeypatch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
    made = init_workspace(tmp_path / "workspace")
    from orchestra.wire.builtin import builtin_folder

    mine = made.root / "tasks" / "mine"
    shutil.copytree(builtin_folder() / "tasks" / "example", mine)
    config = (mine / "config.py").read_text().replace('"example"', '"mine"')
    (mine / "config.py").write_text(config)
    preset = (builtin_folder() / "presets" / "example.toml").read_text()
    (made.root / "presets" / "mine.toml").write_text(preset)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=made.root, check=True)
    return made


def submit(workspace: Workspace, **more: Any) -> Submitted:
    submission = Submission("mine", given=more.pop("given", CPU), **more)
    with staged(workspace, submission) as run:
        return run.commit()


def start(workspace: Workspace, submission: Submission) -> Submitted:
    with staged(workspace, submission) as run:
        return run.commit()


def config_of(run: Submitted) -> dict[str, Any]:
    return tomllib.loads(run.folder.job.config.read_text())


def test_unchanged_it_has_the_same_config_under_another_name(workspace: Workspace) -> None:
    first = submit(workspace, name="first", tags=("paper",), sets=("optim.lr=0.25",))
    with (workspace.root / "presets" / "mine.toml").open("a") as preset:
        preset.write("\n[launch]\nmax_restarts = 9\n")  # since then the preset has changed
    copy = clone(workspace, first.run_id)
    assert copy.run_id != first.run_id and copy.name.startswith("mine-fbank-")
    assert copy.folder.job.config.read_bytes() == first.folder.job.config.read_bytes()
    identity = json.loads(copy.folder.identity.read_text())
    assert identity["clone_of"] == first.run_id
    origins = json.loads(copy.folder.job.origins.read_text())
    assert origins["optim.lr"] == f"clone of {first.run_id}"
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(copy.run_id)
    assert (row.state, row.tags) == (RunState.QUEUED, ()), "labels are the original's own"


def test_changes(workspace: Workspace) -> None:
    first = submit(workspace)
    second = start(
        workspace,
        clone_submission(
            workspace,
            first.run_id,
            sets=("optim.lr=0.25",),
            given=(Given("seed", 7, "--seed"), Given("launch.nproc", 2, "--nproc")),
            name="second",
            tags=("a",),
            remark="look",
            priority=4,
        ),
    )
    before, after = config_of(first), config_of(second)
    assert (after["optim"]["lr"], after["seed"], after["launch"]["nproc"]) == (0.25, 7, 2)
    for document in (before, after):
        del document["optim"]["lr"], document["seed"], document["launch"]["nproc"]
        del document["batch"]["micro_batches"]
    assert after == before
    with open_registry(workspace.runs) as registry:
        row = registry.run_named("second")
        (waiting,) = [each for each in registry.queued() if each.name == "second"]
    assert row is not None and (row.tags, row.remark) == (("a",), "look")
    assert waiting.demand.priority == 4
    with pytest.raises(UsageError, match="no such key"):
        plan(workspace, clone_submission(workspace, first.run_id, sets=("optim.lrr=1",)))


def test_on_the_cpu_it_wants_no_gpu_of_the_original(workspace: Workspace) -> None:
    first = submit(workspace)
    config = first.folder.job.config
    text = config.read_text().replace('device = "cpu"', 'device = "gpu"')
    config.write_text(text.replace("gpu_ids = []", 'gpu_ids = ["0"]'))
    made = plan(workspace, clone_submission(workspace, first.run_id, given=CPU))
    assert made.composed.config.launch.gpu_ids == []


def test_the_plan_names_what_differs(workspace: Workspace) -> None:
    first = submit(workspace)
    made = plan(workspace, clone_submission(workspace, first.run_id, sets=("optim.lr=0.25",)))
    assert made.composed.changed == ("optim.lr",)
    with open_registry(workspace.runs) as registry:
        assert len(registry.list_runs()) == 1


def test_initial_weights_are_those_of_the_original_even_if_their_source_is_gone(
    workspace: Workspace,
) -> None:
    source = submit(workspace, name="source")
    folder = add_checkpoint(source.folder, 10, 9.0)
    first = submit(workspace, init_from="source", sets=('init.parts=["head"]',))
    unchanged = clone(workspace, first.run_id)
    assert config_of(unchanged)["init"] == config_of(first)["init"]
    assert (unchanged.folder.init / "manifest.json").is_file()
    shutil.rmtree(folder)
    copy = clone(workspace, first.run_id)
    init = config_of(copy)["init"]
    assert init == {**config_of(first)["init"], "folder": str(first.folder.init)}
    for name in ("manifest.json", "model.safetensors"):
        copied = (copy.folder.init / name).read_bytes()
        assert copied == (first.folder.init / name).read_bytes()


def test_weights_that_are_yet_to_come_are_waited_for_too(workspace: Workspace) -> None:
    source = submit(workspace, name="source")
    first = submit(workspace, init_from="source", after="source")
    promised = QueueEntry(0, source.run_id, f"{source.run_id}:best")
    assert QueueEntry.read(first.folder.job) == promised
    copy = clone(workspace, first.run_id)
    assert QueueEntry.read(copy.folder.job) == promised
    # They have come in the meantime: it takes them at once.
    add_checkpoint(source.folder, 10, 9.0)
    with open_registry(workspace.runs) as registry:
        registry.transition(JobKey(source.run_id), {RunState.QUEUED}, RunState.COMPLETED)
    late = clone(workspace, first.run_id)
    assert QueueEntry.read(late.folder.job) == QueueEntry(after=source.run_id)
    assert config_of(late)["init"]["folder"] == str(source.folder.checkpoint(10))


def test_a_task_that_is_gone_is_told_with_where_it_was(workspace: Workspace) -> None:
    first = submit(workspace)
    shutil.rmtree(workspace.root / "tasks" / "mine")
    with pytest.raises(NotFoundError) as caught:
        clone(workspace, first.run_id)
    told = str(caught.value)
    assert "trains the task 'mine', which is no longer there" in told
    kept = Path(told.rsplit("it is in ", 1)[1])
    assert (kept / "task.py").is_file() and kept.is_relative_to(workspace.runs.path)


def test_a_damaged_original_is_told(workspace: Workspace) -> None:
    first = submit(workspace)
    first.folder.job.config.write_text("= 3")
    with pytest.raises(UsageError, match="is not a frozen config"):
        clone(workspace, first.run_id)
    first.folder.job.config.unlink()
    with pytest.raises(UsageError, match="cannot read"):
        clone(workspace, first.run_id)
    with pytest.raises(NotFoundError):
        clone(workspace, "nobody")
