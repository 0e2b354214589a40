"""Weights from elsewhere: which are meant, what is copied, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestra.config.frozen import load
from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule import initial as module
from orchestra.schedule.initial import find_weights
from orchestra.schedule.remove import remove_run
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import Submitted, plan, staged
from orchestra.wire import weights
from orchestra.wire.checkpoints import BadCheckpointError
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.workspace import Workspace, init_workspace

CPU = (Given("launch.device", "cpu", "--cpu"),)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    made = init_workspace(tmp_path / "workspace")
    subprocess.run(["git", "init", "-q"], cwd=made.root, check=True)
    return made


def submit(
    workspace: Workspace, init_from: str | None = None, *sets: str, **more: Any
) -> Submitted:
    submission = Submission("example", given=CPU, sets=sets, init_from=init_from, **more)
    with staged(workspace, submission) as run:
        return run.commit()


def listed(folder: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Size and sha256 of the files, as a manifest has them; they are made."""
    files = {}
    for name in names:
        data = f"the bytes of {name} in {folder.name}".encode()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return files


def add_checkpoint(run: RunFolder, step: int, score: float | None) -> Path:
    """A checkpoint as the ranks write it; no tensors, since none are read."""
    folder = run.checkpoint(step)
    files = listed(folder, "model.safetensors", "optimizer.safetensors", "state.json")
    goal = {"metric": "accuracy", "direction": "max"}
    document = {"step": step, "score": score, **goal, "files": files}
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def add_export(folder: Path) -> Path:
    files = listed(folder, "config.toml", "head.safetensors", "upstream/model.safetensors")
    checkpoint = {"step": 7, "score": 0.5, "metric": "accuracy"}
    (folder / "orchestra.json").write_text(json.dumps({"checkpoint": checkpoint, "files": files}))
    return folder


@pytest.fixture
def source(workspace: Workspace) -> RunFolder:
    """A run called `source` whose best checkpoint is not its last one."""
    run = workspace.runs.run("s0urce00")
    run.path.mkdir(parents=True)
    run.identity.write_text("{}")
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun(run.id, "source", "example", "fbank", 0.0, 30, config_sha256=""))
    add_checkpoint(run, 10, 9.0)
    add_checkpoint(run, 20, 8.0)
    return run


def test_a_run_names_its_best_or_the_one_after_the_colon(
    workspace: Workspace, source: RunFolder
) -> None:
    for suffix, step in {"": 10, ":best": 10, ":last": 20, ":20": 20, ":10": 10}.items():
        for name in ("source", source.id, source.id[:4], "@last"):
            assert find_weights(workspace, name + suffix) == source.checkpoint(step)


def test_a_folder_is_a_checkpoint_or_an_export(
    workspace: Workspace, source: RunFolder, tmp_path: Path
) -> None:
    export = add_export(tmp_path / "models")
    assert find_weights(workspace, "./models") == find_weights(workspace, str(export)) == export
    assert find_weights(workspace, "models") == export, "no run is called so"
    assert find_weights(workspace, str(source.checkpoint(20))) == source.checkpoint(20)
    add_export(tmp_path / "source")
    assert find_weights(workspace, "source") == source.checkpoint(10), "a run comes first"
    assert find_weights(workspace, "./source") == tmp_path / "source"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("nobody", "no run 'nobody'.*written with a slash"),
        ("source:30", "no checkpoint '30'; steps with one: 10, 20"),
        ("./nothing", "there is no folder .*nothing"),
        (".", "neither a checkpoint nor an export"),
        ("{run}", "neither a checkpoint nor an export; give the run: --init-from {id}"),
    ],
)
def test_what_is_not_there_is_a_sentence(
    workspace: Workspace, source: RunFolder, wanted: str, text: str
) -> None:
    with pytest.raises(NotFoundError, match=text.format(id=source.id)):
        find_weights(workspace, wanted.format(run=source.path))


def test_a_run_without_a_checkpoint_is_refused(workspace: Workspace) -> None:
    submit(workspace, name="young")
    with pytest.raises(NotFoundError, match="no checkpoint 'best'; steps with one: none yet"):
        submit(workspace, "young")


def test_the_run_owns_its_copy_and_its_config_tells(
    workspace: Workspace, source: RunFolder
) -> None:
    run = submit(workspace, "source", 'init.parts=["head"]').folder
    assert load(run.job.config)["init"] == {
        "source": "source",
        "folder": str(source.checkpoint(10)),
        "sha256": weights.read_manifest(source.checkpoint(10)).sha256,
        "parts": ["head"],
    }
    origins = json.loads(run.job.origins.read_bytes())
    assert origins["init.folder"] == origins["init.sha256"] == "--init-from"
    assert origins["init.parts"] == "--set"
    names = {path.name for path in run.init.iterdir()}
    assert names == {"model.safetensors", "state.json", "manifest.json"}, "no optimizer"
    assert not any(path.is_symlink() for path in run.init.iterdir())
    links = (run.init / "model.safetensors").stat().st_nlink
    assert links == 2, "it needs no space of its own"
    with open_registry(workspace.runs) as registry:
        registry.delete_run(source.id)
    shutil.rmtree(source.path)
    weights.verify(run.init)
    remove_run(workspace, run.id)


def test_an_export_is_copied_with_its_folders(workspace: Workspace, tmp_path: Path) -> None:
    export = add_export(tmp_path / "models")
    run = submit(workspace, "./models").folder
    shutil.rmtree(export)
    assert weights.verify(run.init).step == 7
    assert (run.init / "upstream" / "model.safetensors").is_file()


def test_editing_the_source_changes_no_run(workspace: Workspace, tmp_path: Path) -> None:
    export = add_export(tmp_path / "models")
    run = submit(workspace, "./models").folder
    for name in ("config.toml", "head.safetensors"):
        with (export / name).open("a") as file:
            file.write("# mine\n")
    weights.verify(run.init)


def test_editing_a_copied_checkpoint_changes_no_run(
    workspace: Workspace, source: RunFolder, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(source.checkpoint(10), tmp_path / "step-00000010"))
    run = submit(workspace, "./step-00000010").folder
    (copy / "model.safetensors").write_bytes(b"mine")
    weights.verify(run.init)


def test_without_links_it_is_copied(
    workspace: Workspace, source: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    run = submit(workspace, "source").folder
    weights.verify(run.init)
    assert (run.init / "model.safetensors").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_damaged_weights_start_no_run(workspace: Workspace, source: RunFolder, name: str) -> None:
    path = source.checkpoint(10) / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadCheckpointError, match=name):
        submit(workspace, "source")
    folders = [path for path in workspace.runs.path.iterdir() if (path / "config.toml").exists()]
    assert folders == [], "nothing is left of it"


def test_the_optimizer_does_not_matter(workspace: Workspace, source: RunFolder) -> None:
    (source.checkpoint(10) / "optimizer.safetensors").unlink()
    submit(workspace, "source")


def test_nothing_is_left_if_the_copy_fails(
    workspace: Workspace, source: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(OrchestraError, match=r"cannot copy .*model.safetensors.*No space left"):
        submit(workspace, "source")
    assert not list(workspace.runs.path.glob(".new-*"))


def test_the_plan_tells_what_is_meant(workspace: Workspace, source: RunFolder) -> None:
    told: list[str | None] = []
    for init_from in ("source:last", None):
        made = plan(workspace, Submission("example", given=CPU, init_from=init_from))
        found = {finding.what: finding.detail for finding in made.findings}
        told.append(found.get("init"))
    assert told == [f"source:last: step 20 in {source.checkpoint(20)}", None]


def test_a_frozen_config_as_preset_means_the_same_weights(
    workspace: Workspace, source: RunFolder
) -> None:
    first = submit(workspace, "source").folder
    again = submit(workspace, presets=(str(first.job.config),)).folder
    weights.verify(again.init)
    shutil.rmtree(source.checkpoint(10))
    source.checkpoint(20).rename(source.checkpoint(10))
    with pytest.raises(UsageError, match="no longer holds the weights that the config means"):
        submit(workspace, presets=(str(first.job.config),))


def test_parts_alone_ask_for_the_flag(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"init.source: .*--init-from"):
        submit(workspace, None, 'init.parts=["head"]')


def test_a_manifest_that_leads_outside_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    export = add_export(tmp_path / "models")
    document = json.loads((export / "orchestra.json").read_bytes())
    document["files"]["../../stolen"] = {"size": 0, "sha256": ""}
    (export / "orchestra.json").write_text(json.dumps(document))
    with pytest.raises(BadCheckpointError, match=r"lists '../../stolen'"):
        submit(workspace, "./models")
