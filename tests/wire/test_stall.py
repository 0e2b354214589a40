from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestra.wire.heartbeat import Heartbeat, Phase, read_beats
from orchestra.wire.stall import StallNotice, read_stall, remove_stall, write_stall

NOTICE = StallNotice(1, 4711, Phase.FORWARD, 6, "S", 100.0, 130.0, "restart 1 of 2 from step 5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "base" / "tag"


def change(folder: Path, **values: object) -> None:
    path = folder / "stall.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_notice_comes_back_until_it_is_removed(folder: Path) -> None:
    assert read_stall(folder) is None
    write_stall(folder, NOTICE)
    assert read_stall(folder) == NOTICE
    remove_stall(folder)
    assert read_stall(folder) is None
    remove_stall(folder)


def test_it_counts_down_by_the_readers_clock() -> None:
    assert NOTICE.sentence(118.2) == (
        "rank 1 is silent in forward at step 6 for 18 s; in 12 s: restart 1 of 2 from step 5"
    )
    assert (NOTICE.silent_s(190.0), NOTICE.left_s(190.0)) == (90.0, 0.0)


@pytest.mark.parametrize(
    ("pid", "state", "who"),
    [
        (7, "T", "rank 1 is stopped (SIGSTOP) in forward at step 6 for"),
        (7, "D", "rank 1 is silent in forward at step 6, waiting in the kernel (state D) for"),
        (0, "", "rank 1 has not started for"),
    ],
)
def test_the_sentence_tells_what_the_kernel_knows(pid: int, state: str, who: str) -> None:
    notice = StallNotice(1, pid, Phase.FORWARD, 6, state, 0.0, 30.0, "end")
    assert notice.sentence(20.0).startswith(who)


def test_heartbeats_beside_it_are_read_as_before(folder: Path) -> None:
    pulse = Heartbeat(folder, 0)
    write_stall(folder, NOTICE)
    assert [beat.rank for beat in read_beats(folder)] == [0]
    pulse.remove()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\xff", '{"version": 1}', "[" * 4000])
def test_what_is_torn_is_no_notice(folder: Path, text: str) -> None:
    write_stall(folder, NOTICE)
    (folder / "stall.json").write_text(text, encoding="latin-1")
    assert read_stall(folder) is None


def test_nor_is_what_a_newer_version_wrote(folder: Path) -> None:
    write_stall(folder, NOTICE)
    change(folder, more=1)
    assert read_stall(folder) == NOTICE
    change(folder, version=2)
    assert read_stall(folder) is None


def test_nor_what_is_another_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stall(folder, NOTICE)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert read_stall(folder) is None


def test_a_link_and_a_pipe_are_not_followed(folder: Path, tmp_path: Path) -> None:
    write_stall(folder, NOTICE)
    path = folder / "stall.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert read_stall(folder) is None
    path.unlink()
    os.mkfifo(path)
    assert read_stall(folder) is None
