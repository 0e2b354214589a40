from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestra.supervise import stall_note
from orchestra.supervise.hang import Silence
from orchestra.supervise.stall_note import StallNote
from orchestra.wire.errors import DiskFullError
from orchestra.wire.heartbeat import Phase
from orchestra.wire.stall import read_stall, write_stall

SILENCE = Silence(1, 4711, Phase.FORWARD, 6, silent_s=16.0, left_s=14.0, state="S")


class Note:
    """One attempt's, and how often it asked for the action."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = 0
        self.note = StallNote(folder, self._action)

    def _action(self, silence: Silence) -> str:
        self.asked += 1
        return f"restart from step {silence.step}"


@pytest.fixture
def told(tmp_path: Path) -> Note:
    return Note(tmp_path / "base" / "tag")


def later(silence: Silence, by_s: float) -> Silence:
    return replace(silence, silent_s=silence.silent_s + by_s, left_s=silence.left_s - by_s)


def test_told_once_while_the_countdown_runs_and_taken_back(told: Note) -> None:
    told.note.tell(SILENCE, 1000.0)
    notice = read_stall(told.folder)
    assert notice is not None
    assert (notice.since_s, notice.due_s) == (984.0, 1014.0)
    assert notice.action == "restart from step 6"
    before = (told.folder / "stall.json").stat()
    for turn in range(1, 50):
        told.note.tell(later(SILENCE, 0.2 * turn), 1000.0 + 0.2 * turn)
    assert (told.folder / "stall.json").stat() == before
    assert told.asked == 1
    told.note.tell(None, 1011.0)
    assert read_stall(told.folder) is None


@pytest.mark.parametrize(
    "changed",
    [replace(SILENCE, left_s=44.0), replace(SILENCE, rank=0), replace(SILENCE, state="T")],
)
def test_told_anew_when_it_changes(told: Note, changed: Silence) -> None:
    told.note.tell(SILENCE, 1000.0)
    before = read_stall(told.folder)
    told.note.tell(changed, 1000.0)
    after = read_stall(told.folder)
    assert after is not None and after != before
    assert (after.rank, after.state) == (changed.rank, changed.state)


def test_nothing_is_touched_while_all_is_well(told: Note) -> None:
    told.note.tell(None, 1000.0)
    assert not told.folder.exists()


def test_a_full_disk_ends_nothing(
    told: Note, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise DiskFullError("no room")

    monkeypatch.setattr(stall_note, "write_stall", refuse)
    for turn in range(5):
        told.note.tell(later(SILENCE, 0.2 * turn), 1000.0 + 0.2 * turn)
    assert capsys.readouterr().err.count("no room") == 1
    monkeypatch.setattr(stall_note, "write_stall", write_stall)
    told.note.tell(None, 1002.0)
    told.note.tell(SILENCE, 1003.0)
    assert read_stall(told.folder) is not None
