"""Windows over files of any size: no line lost, doubled or moved, wherever one begins to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.schedule import log_file
from orchestra.schedule.log_file import decoded, open_log
from orchestra.wire.errors import OrchestraError
from orchestra.wire.terminal import plain

BLOCK = 16
pieces = st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"x" * 7, b"y" * 40, b"\r", b"\n\n"]))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "BLOCK_BYTES", BLOCK)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces.map(b"".join), st.integers(1, 5))
def test_from_the_front_and_from_the_back_are_the_same_lines(
    small_blocks: None, tmp_path: Path, data: bytes, count: int
) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with open_log("rank0", path) as log:
        assert log is not None
        down, at = [], 0
        while lines := log.after(at, count):
            down += lines
            at = lines[-1].end
        up, at = [], log.size
        while lines := log.before(at, count):
            up = lines + up
            at = lines[0].start
        assert up == down
        assert [line.start for line in down] == [0, *(line.end for line in down)][: len(down)]
        assert (down[-1].end if down else 0) == len(data)
        for line in down:
            raw = data[line.start : line.end]
            assert len(raw) <= 2 * BLOCK and raw.count(b"\n") <= 1
            assert raw.endswith(b"\n") or len(raw) >= BLOCK or not line.whole
            assert all(log.line_at(offset) == line for offset in range(line.start, line.end))
        broken = sum(not data[line.start : line.end].endswith(b"\n") for line in down[:-1])
        assert broken == 0 or max(map(len, data.split(b"\n"))) >= BLOCK


def test_a_line_of_usual_length_is_never_broken(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [f"{number} {'x' * (number % 5000)}" for number in range(2000)]
    path.write_text("\n".join(lines))
    with open_log("rank0", path) as log:
        assert log is not None
        found = log.before(log.size, 5000)
    assert [line.text for line in found] == lines
    assert [line.whole for line in found[-2:]] == [True, False]


def test_a_bar_of_a_million_characters_is_short(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"\r%6d/100000 |####|" % number for number in range(50_000)) + b"\n")
    with open_log("rank0", path) as log:
        assert log is not None
        (line,) = log.before(log.size, 1)
    assert line.text == " 49999/100000 |####|"
    long = decoded(b"z" * 90_000 + b"\n")
    assert long.endswith("z ... 85964 bytes cut") and plain(long) == long


def test_absent_replaced_and_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log("rank0", path) as log:
        assert log is None
    path.write_bytes(b"one\n")
    with open_log("rank0", path) as log:
        assert log is not None
        before = log.mark
    with path.open("ab") as file:
        file.write(b"two\n")
    with open_log("rank0", path) as log:
        assert log is not None and before.still_holds(log.mark)
    os.truncate(path, 2)
    with open_log("rank0", path) as log:
        assert log is not None and not before.still_holds(log.mark)
        assert log.after(100, 3) == [] and [line.text for line in log.before(100, 3)] == ["on"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OrchestraError, match="cannot read"), open_log("rank0", loop):
        pass
