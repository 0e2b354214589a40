"""Recordings that a user names: folders are read whole, what can't be read is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestra.data.recordings import Unreadable, listed, measured, recording
from orchestra.wire.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.wav, and sub/b.wav that a link outside of it finds too."""
    root = tmp_path / "named"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        soundfile.write(root / f"{name}.wav", np.full(1600, 0.1), 16000)
    return root


def ids(folder: Path) -> list[str]:
    return [each.id for each in listed([folder]).recordings]


def test_links_are_followed_but_not_in_circles(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "sub")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "sub" / "self").symlink_to(".")
    assert ids(folder) == ["a", "link/b", "sub/b"]


def test_links_that_lead_nowhere_are_unreadable_recordings(folder: Path) -> None:
    (folder / "nowhere.wav").symlink_to("none.wav")
    (folder / "round.wav").symlink_to("round.wav")
    found = measured(listed([folder]).recordings)
    errors = {each.recording.id: each.error for each in found if isinstance(each, Unreadable)}
    assert errors == {
        "nowhere": f"{folder}/nowhere.wav: No such file or directory",
        "round": f"{folder}/round.wav: Too many levels of symbolic links",
    }


def test_a_folder_below_that_can_not_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.scandir

    def closed(path: Any) -> Any:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return own(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="named/sub: Permission denied"):
        listed([folder])


def test_what_is_no_regular_file_is_not_opened() -> None:
    (found,) = measured([recording(Path("/dev/null"))])  # a pipe would be waited for
    assert isinstance(found, Unreadable) and found.error == "/dev/null: no regular file"
