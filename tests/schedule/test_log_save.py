"""Saving a log: where it cannot be written, a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.schedule.log_save import Saving
from orchestra.wire.errors import ConflictError, OrchestraError, UsageError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "rank0.log"
    path.write_text("hello\n")
    return path


def test_a_log_is_saved_as_it_is_and_nothing_is_overwritten(log: Path, tmp_path: Path) -> None:
    target = tmp_path / "saved.log"
    saving = Saving({"rank0": log}, target)
    while not saving.advance(1.0):
        pass
    assert target.read_text() == "hello\n"
    with pytest.raises(ConflictError, match="another name"):
        Saving({"rank0": log}, target).advance(1.0)


@pytest.mark.parametrize("name", ["~no-such-user/x.log", "a\0b.log"])
def test_names_that_no_file_can_have(log: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"[Gg]ive another name"):
        Saving({"rank0": log}, Path(name)).advance(1.0)


def test_a_folder_that_is_not_there(log: Path, tmp_path: Path) -> None:
    with pytest.raises(OrchestraError, match="cannot write"):
        Saving({"rank0": log}, tmp_path / "no" / "x.log").advance(1.0)


def test_a_log_that_is_not_there_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "saved.log"
    missing = tmp_path / "supervisor.log"
    with pytest.raises(OrchestraError, match=f"cannot read {missing}"):
        Saving({"supervisor": missing}, target).advance(1.0)
    assert not target.exists()
