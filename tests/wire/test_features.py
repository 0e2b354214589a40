"""The cache folder: how much is in it, what goes, which layers are meant."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from orchestra.wire.errors import UsageError
from orchestra.wire.features import (
    NEW,
    Usage,
    delete_unused,
    entry_path,
    layers_to_keep,
    size_bytes,
    sweep,
    usage,
)
from orchestra.wire.files import write_json
from orchestra.wire.identity import marked, start_ticks

OLD, NEWER = "0" * 16, "f" * 16
DAY_S = 86400.0


def entry(folder: Path, kind: str, key: str, *, days: float = 0.0) -> Path:
    path = entry_path(folder, kind, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / kind / "kind.json").touch()
    path.write_bytes(b"x" * 100)
    used = time.time() - days * DAY_S
    os.utime(path, (used, used))
    return path


def test_thirteen_layers_of_768_are_about_a_megabyte_a_second() -> None:
    size = size_bytes(100.0, 10, 13, 768, stride=320, min_samples=400)
    assert size == pytest.approx(100 * 50 * 13 * 768 * 2, rel=0.01)


@pytest.mark.parametrize(("stride", "least"), [(320, 400), (160, 160), (1600, 2800)])
def test_the_size_of_many_short_utterances_is_told_within_a_percent(
    stride: int, least: int
) -> None:
    lengths = [8000 + 37 * n for n in range(500)]
    frames = sum((length - least) // stride + 1 for length in lengths)
    told = size_bytes(sum(lengths) / 16000, 500, 2, 64, stride=stride, min_samples=least)
    assert told == pytest.approx(frames * 2 * 64 * 2 + 500 * 180, rel=0.01)


def test_layers() -> None:
    assert layers_to_keep(None, None, 4) == [0, 1, 2, 3]
    assert layers_to_keep(None, -1, 4) == [3]
    assert layers_to_keep([-1, 0], None, 4) == [3, 0]
    with pytest.raises(UsageError, match="from 0 to 3"):
        layers_to_keep([4], None, 4)
    with pytest.raises(UsageError, match="twice: 3, -1"):
        layers_to_keep([3, -1], None, 4)


def test_usage_of_what_says_the_same(tmp_path: Path) -> None:
    entry(tmp_path, OLD, "aa1")
    entry(tmp_path, OLD, "aa2")
    entry(tmp_path, NEWER, "bb1")
    write_json(tmp_path / OLD / "kind.json", {"source": "lab/model", "layers": [1]})
    assert usage(tmp_path) == Usage(3, 300)
    assert usage(tmp_path, source="lab/model", layers=[1]) == Usage(2, 200)
    assert usage(tmp_path, source="lab/other") == Usage(0, 0)
    assert usage(tmp_path / "nowhere") == Usage(0, 0)


def test_only_what_was_not_used_for_so_long_goes(tmp_path: Path) -> None:
    old = entry(tmp_path, OLD, "aa1", days=40)
    kept = entry(tmp_path, NEWER, "aa2", days=20)
    entry(tmp_path, NEWER, "bb2", days=40)
    (tmp_path / "recordings").mkdir()
    foreign = tmp_path / ("a" * 16) / "bb" / "model.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"not ours: no kind.json says so")
    os.utime(foreign, (1.0, 1.0))
    assert delete_unused(tmp_path, 30) == Usage(2, 200)
    assert not old.parent.parent.exists()
    assert kept.exists()
    assert delete_unused(tmp_path, 0) == Usage(1, 100)
    assert (tmp_path / "recordings").is_dir()
    assert foreign.exists()


def test_half_written_entries_of_the_dead_are_swept_and_no_others(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    ticks = start_ticks(dead.pid) or 1
    dead.wait()
    new = tmp_path / NEW
    new.mkdir()
    names = {"dead": f"a.safetensors-{dead.pid}-{ticks}", "alive": marked("a.safetensors")}
    names["just now"] = f"b.safetensors-{dead.pid}-{ticks}"
    for name in names.values():
        (new / name).write_bytes(b"half")
        os.utime(new / name, (1.0, 1.0))
    os.utime(new / names["just now"])
    sweep(tmp_path)
    assert {path.name for path in new.iterdir()} == {names["alive"], names["just now"]}


def test_what_others_have_locked_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions don't bind root, who may run the tests."""
    entry(tmp_path, OLD, "aa1", days=40)
    (tmp_path / NEW).mkdir()

    def locked(path: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", locked)
    sweep(tmp_path)
    assert usage(tmp_path) == delete_unused(tmp_path, 30) == Usage(0, 0)
