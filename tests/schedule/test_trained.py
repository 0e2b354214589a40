"""What is meant by RUN where a trained model is used: a run, or the folder of an export."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.gpu.leases import Leases
from orchestra.schedule.trained import find_trained, leased, program_of
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.errors import ConflictError, NotFoundError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.job import CODE
from orchestra.workspace import init_workspace
from tests.fakes.nvml import FakeNvml


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "kws"
    folder.mkdir(parents=True)
    (folder / "orchestra.json").write_text("{}")
    launch = 'device = "cpu"\ngpu_ids = []\nnproc = 1\nthreads = 3\ngrace_s = 1.0\n'
    (folder / "config.toml").write_text(f"[launch]\n{launch}max_restarts = 0\nbackoff_s = 1.0\n")
    return folder


def test_an_export_needs_no_workspace_and_runs_what_is_installed(export: Path) -> None:
    trained = find_trained(None, str(export))
    assert trained.weights(None) == export
    assert trained.code == builtin_folder()
    given = {"PYTHONPATH": "/somewhere"}
    program = program_of(trained, "orchestra.train.predict", ["x"], given)
    assert program.environment["PYTHONPATH"] == "/somewhere"
    assert program.environment[CODE] == os.fspath(builtin_folder())
    assert program.environment["OMP_NUM_THREADS"] == "3"
    assert program.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert program.command[-3:] == ["--config", str(export / "config.toml"), "x"]
    with pytest.raises(UsageError, match="is an export: it has no --checkpoint"):
        trained.weights("best")


def test_in_a_workspace_its_tasks_are_known(export: Path, tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path / "workspace")
    assert find_trained(workspace, f"{export}/").code == workspace.root
    with pytest.raises(NotFoundError, match="there are no runs yet"):
        find_trained(workspace, "kws")


def test_a_folder_of_that_name_is_found_where_no_run_has_it(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(export.parent)
    assert find_trained(init_workspace(tmp_path / "workspace"), "kws").folder == export
    (export / "orchestra.json").unlink()
    with pytest.raises(NotFoundError, match=r"kws is not the folder of an export \(`orchestra exp"):
        find_trained(None, "./kws")
    with pytest.raises(NotFoundError, match=r"no folder .* here is no workspace either"):
        find_trained(None, "nothing")


def test_code_from_before_there_was_such_a_program(export: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "abcd")
    old = replace(find_trained(None, str(export)), name="abcd", code=tmp_path, run=run)
    with pytest.raises(UsageError, match="run abcd is of an older orchestra, which has no `score`"):
        program_of(old, "orchestra.train.score", [], {})


def test_a_gpu_is_held_meanwhile_and_free_afterwards(
    export: Path, nvml: FakeNvml, tmp_path: Path
) -> None:
    nvml.write("gpu GPU-a 81920 3 0 H100")
    trained = find_trained(None, str(export))
    with leased(trained, None) as devices:
        assert devices == ()
    with leased(trained, "any") as devices, Leases() as others:
        assert devices == ("GPU-a",)
        with pytest.raises(ConflictError, match="GPU 0: leased by run predict kws"):
            others.acquire(1, (), "other", tmp_path)
        with pytest.raises(ConflictError), leased(trained, "0"):
            pass
    with Leases() as others:
        assert others.acquire(1, (), "other", tmp_path)
