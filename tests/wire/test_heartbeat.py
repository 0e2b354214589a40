from __future__ import annotations

import os
import shutil
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.wire import heartbeat
from orchestra.wire.errors import DiskFullError, OrchestraError
from orchestra.wire.heartbeat import Heartbeat, Pages, Phase, read_beats
from tests.fakes.disk import fill, mounted


def change(page: Path, at: int, value: bytes) -> None:
    with page.open("r+b") as file:
        file.seek(at)
        file.write(value)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_beats_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "tag"
    pulses = [Heartbeat(folder, rank) for rank in (1, 0)]
    pulses[0].beat(7, Phase.FORWARD, 1.5)
    first, second = read_beats(folder)
    assert (first.rank, first.step, first.phase) == (0, 0, Phase.IMPORT)
    assert (second.rank, second.step, second.promise_s, second.pid) == (1, 7, 1.5, os.getpid())
    for pulse in pulses:
        pulse.remove()
    assert not folder.exists()
    assert read_beats(folder) == []


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (4, struct.pack("<I", 99)),  # another version
        (heartbeat._SEQUENCE_AT, bytes(8)),  # in the middle of a beat
        (heartbeat._BEAT_AT + 16, struct.pack("<I", 99)),  # unknown phase
        (0, b"XXXX"),
    ],
)
def test_what_is_no_whole_beat_is_left_out(tmp_path: Path, at: int, value: bytes) -> None:
    folder = tmp_path / "base" / "tag"
    Heartbeat(folder, 0)
    assert len(read_beats(folder)) == 1
    change(folder / "rank0", at, value)
    assert read_beats(folder) == []


def test_beat_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "base" / "tag"
    pulse = Heartbeat(folder, 0)
    whole, torn = os.pread, [True]

    def half_old(fd: int, count: int, offset: int) -> bytes:
        """The first reading: the step as it was, everything after it as it will be."""
        old = whole(fd, count, offset)
        if not torn:
            return old
        torn.clear()
        pulse.beat(9, Phase.DONE)
        at = heartbeat._BEAT_AT + 16
        return old[:at] + whole(fd, count, offset)[at:]

    monkeypatch.setattr(os, "pread", half_old)
    (beat,) = read_beats(folder)
    assert (beat.step, beat.phase) == (9, Phase.DONE)


def test_samples_stay_until_others_are_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "tag"
    pulse = Heartbeat(folder, 0)
    assert read_beats(folder)[0].samples == ()
    pulse.beat(3, Phase.FORWARD)
    pulse.note_samples(["a", "ünï", "c d"])
    (noted,) = read_beats(folder)
    pulse.beat(4, Phase.DATA)
    (beaten,) = read_beats(folder)
    assert noted.samples == beaten.samples == ("a", "ünï", "c d")
    assert (noted.sequence, noted.step) == (beaten.sequence - 1, 3), "a note is no beat"
    pulse.note_samples(["x"])
    assert read_beats(folder)[0].samples == ("x",)
    pulse.note_samples([])
    assert read_beats(folder)[0].samples == ()


@given(ids=st.lists(st.text("aé😀", min_size=1, max_size=600), max_size=40))
@settings(max_examples=60, deadline=None)
def test_only_whole_ids_are_noted(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("base") / "base" / "tag"
    pulse = Heartbeat(folder, 0)
    pulse.note_samples(["old"] * 300)
    pulse.note_samples(ids)
    (beat,) = read_beats(folder)
    if sum(len(each.encode()) + 1 for each in ids) <= 1024:
        assert beat.samples == tuple(ids)
    else:
        *whole, more = beat.samples
        assert more == "..."
        assert whole == ids[: len(whole)]


def test_half_a_note_is_no_beat(tmp_path: Path) -> None:
    """As when the rank is stopped in the middle of it."""
    folder = tmp_path / "base" / "tag"
    pulse = Heartbeat(folder, 0)
    pulse.note_samples(["one", "two"])

    data = b"three\0fo"
    pulse._words[heartbeat._SEQUENCE_WORD] = 0
    pulse._bytes[heartbeat._IDS_AT : heartbeat._IDS_AT + len(data)] = data
    assert read_beats(folder) == []
    pulse.beat(1, Phase.DATA)
    assert len(read_beats(folder)) == 1


def test_a_page_of_an_older_version_has_no_samples(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "tag"
    Heartbeat(folder, 0).note_samples(["one"])
    change(folder / "rank0", heartbeat._SAMPLES_AT, bytes(4096 - heartbeat._SAMPLES_AT))
    assert [beat.samples for beat in read_beats(folder)] == [()]


def test_folders_are_private_from_the_base_on(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        base = tmp_path / "base"
        Heartbeat(base / "tag", 0)
        base.chmod(0o755)  # as older versions made it
        Heartbeat(base / "tag", 1)
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in (base, base / "tag")] == [0o700, 0o700]


def test_base_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "base").symlink_to(mine)
    with pytest.raises(OrchestraError, match="is not a folder of yours"):
        Heartbeat(tmp_path / "base" / "tag", 0)
    if os.getuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 12345, 12345)
        with pytest.raises(OrchestraError, match="is not a folder of yours"):
            Heartbeat(theirs / "tag", 0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "tag"
    Heartbeat(folder, 0)
    (folder / "rank1").symlink_to(folder / "rank0")
    assert len(read_beats(folder)) == 1
    with pytest.raises(OSError):
        Heartbeat(folder, 1)


def test_a_page_without_room_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Not SIGBUS at the first beat."""
    with mounted(tmp_path / "shm", mebibytes=1) as shm:
        fill(shm)
        said = rf"no room for a heartbeat in {shm}/base/tag \(No space left .* larger --shm-size"
        with pytest.raises(DiskFullError, match=said):
            Heartbeat(shm / "base" / "tag", 0)


def test_a_page_that_is_unlinked_is_read_on(tmp_path: Path) -> None:
    """As logind does it to all of a user's files in /dev/shm."""
    folder = tmp_path / "base" / "tag"
    pulses = [Heartbeat(folder, rank) for rank in range(2)]
    with closing(Pages(folder)) as pages:
        assert len(pages.read()) == 2
        shutil.rmtree(tmp_path / "base")
        assert read_beats(folder) == [], "by its name it is gone"
        for pulse in pulses:
            pulse.beat(7, Phase.FORWARD)
        assert [(beat.rank, beat.step) for beat in pages.read()] == [(0, 7), (1, 7)]
        Heartbeat(folder, 2)
        assert [beat.rank for beat in pages.read()] == [0, 1, 2], "one that starts later is found"


def test_nothing_stays_open(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "tag"
    Heartbeat(folder, 0)
    (folder / "other").write_text("no page")
    before = descriptors()
    with closing(Pages(folder)) as pages:
        for _ in range(3):
            assert len(pages.read()) == 1
        assert descriptors() == before + 1
    read_beats(folder)
    assert descriptors() == before
