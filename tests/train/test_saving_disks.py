"""The saver on disks that fail, are full or read-only, or let nothing be deleted."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestra.train import checkpoint, snapshot
from orchestra.train.checkpoint import Contents
from orchestra.wire import checkpoints
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import ExitCode
from tests.fakes.disk import mounted
from tests.train.savers import FULL, Told, contents, fail, names, saver, steps, wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", mebibytes=1) as disk:
        yield disk


def test_an_error_of_the_disk_ends_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, OSError(errno.EIO, "Input/output error"), times=2)
    keeper = saver(tmp_path)
    keeper.save(1, contents, None, must=False)
    wait_for(keeper)
    with pytest.raises(OSError, match="Input/output"):
        keeper.poll()
    keeper.poll()  # told once
    keeper.save(2, contents, None, must=False)
    with pytest.raises(OSError, match="Input/output"):
        keeper.save(3, contents, None, must=False)


def test_a_full_disk_is_told_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    keeper = saver(tmp_path, told)
    keeper.save(1, contents, None, must=True)
    fail(monkeypatch, FULL)
    keeper.save(2, contents, None, must=False)
    wait_for(keeper)
    keeper.poll()
    assert told.notices == [
        "no checkpoint at step 2, the disk is full (No space left on device); training on"
    ]
    assert names(tmp_path) == ["step-00000001"]
    keeper.save(2, contents, None, must=False)  # not taken for saved
    keeper.close()
    assert told.steps == [1, 2]


@pytest.mark.parametrize("before", [True, False])
def test_the_last_save_must_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    fail(monkeypatch, FULL, times=2)
    keeper = saver(tmp_path)
    if before:
        keeper.save(1, contents, None, must=False)
    with pytest.raises(OSError, match="No space"):
        keeper.save(1, contents, None, must=True)
        keeper.save(2, contents, None, must=True)


@pytest.mark.parametrize("looked_before", [True, False])
def test_a_disk_that_is_really_full(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, looked_before: bool
) -> None:
    told, root = Told(), small_disk / "checkpoints"
    keeper = saver(root, told)
    keeper.save(1, contents, None, must=True)
    if not looked_before:
        monkeypatch.setattr(checkpoint, "_check_space", lambda root, size: None)
    big = Contents({"w": torch.zeros(200_000)}, {"w": torch.zeros(200_000)}, {})
    keeper.save(2, lambda: big, None, must=False)
    keeper.close()
    assert [text.split(",")[0] for text in told.notices] == ["no checkpoint at step 2"]
    assert names(root) == ["step-00000001"]
    assert checkpoint.newest_good(root, pytest.fail) == checkpoints.step_folder(root, 1)


def test_room_for_more_than_the_checkpoint_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(p.nbytes for ps in snapshot.Snapshots().take(contents()).values() for p in ps)
    free = {"bytes": int(1.2 * size) - 1}
    monkeypatch.setattr(
        checkpoint.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free["bytes"]})
    )
    keeper = saver(tmp_path)
    with pytest.raises(OSError, match="bytes free"):
        keeper.save(1, contents, None, must=True)
    assert not names(tmp_path)
    free["bytes"] += 2
    keeper.save(1, contents, None, must=True)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.write_text("")
    with pytest.raises(UsageError, match=rf"can't write checkpoints to {root}: .*resume") as caught:
        saver(root)
    assert caught.value.exit_code is ExitCode.USAGE  # which the supervisor does not retry


def test_a_folder_that_becomes_read_only(small_disk: Path) -> None:
    keeper = saver(small_disk)
    keeper.save(1, contents, None, must=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    keeper.save(2, contents, None, must=False)
    wait_for(keeper)
    with pytest.raises(UsageError, match=r"Read-only file system; make that a folder"):
        keeper.poll()
    with pytest.raises(UsageError, match=str(small_disk)):
        saver(small_disk)


def test_a_bad_one_in_a_read_only_folder_is_passed_over(small_disk: Path) -> None:
    keeper, said = saver(small_disk), []
    for step in (1, 2):
        keeper.save(step, contents, None, must=True)
    (checkpoints.step_folder(small_disk, 2) / "state.json").write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = checkpoint.newest_good(small_disk, said.append)
    assert found == checkpoints.step_folder(small_disk, 1)
    assert "can't be moved to quarantine (Read-only file system)" in said[0]


def test_an_old_one_that_cannot_be_deleted_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where a file that somebody still reads keeps its folder from going."""
    told = Told()
    keeper = saver(tmp_path, told)
    for step in (1, 2):
        keeper.save(step, contents, None, must=True)

    def busy(folder: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "delete", busy)
        for step in (3, 4):
            keeper.save(step, contents, None, must=True)
    assert told.steps == [1, 2, 3, 4]
    (notice,) = told.notices
    assert notice.startswith("an old checkpoint can't be deleted (") and "step-00000001" in notice
    keeper.save(5, contents, None, must=True)
    assert steps(tmp_path) == [4, 5], "the next one removes what was left"


def test_a_replaced_one_that_cannot_be_deleted_undoes_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    keeper = saver(tmp_path, told)
    keeper.save(1, contents, None, must=True)

    def busy(folder: Path, ignore_errors: bool = False) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    with monkeypatch.context() as broken:
        broken.setattr("shutil.rmtree", busy)
        keeper.save(1, contents, 0.5, must=True)
    assert (told.steps, told.notices) == ([1, 1], [])
    assert checkpoints.verify(checkpoints.step_folder(tmp_path, 1)).score == 0.5
    saver(tmp_path)
    assert names(tmp_path) == ["step-00000001"]
