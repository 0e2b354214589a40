"""Reading logs that grow, of any size."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.schedule.logs import LogFile, log_files, parse_ranks, previous_attempt
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.folders import RunFolder


def test_whole_lines_only_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile("rank0", path)
    assert list(log.new_lines()) == []
    path.write_bytes(b"one\ntwo\r\nthr")
    assert list(log.new_lines()) == ["one", "two"]
    with path.open("ab") as file:
        file.write(b"ee\n\xff\nlast")
    assert list(log.new_lines()) == ["three", "\ufffd"]
    assert list(log.new_lines(to_the_end=True)) == ["last"]
    assert list(log.new_lines(to_the_end=True)) == []


@pytest.mark.parametrize("count", [1, 3, 5000, 20000])
def test_tail(tmp_path: Path, count: int) -> None:
    path = tmp_path / "log"
    lines = [f"line {number} {'x' * (number % 90)}" for number in range(10000)]
    path.write_text("".join(line + "\n" for line in lines))
    log = LogFile("rank0", path)
    log.skip_to_last(count)
    assert list(log.new_lines()) == lines[-count:]


def test_which_files(tmp_path: Path) -> None:
    job = RunFolder(tmp_path / "abcd").job
    with pytest.raises(NotFoundError, match="not been started"):
        log_files(job, attempt=None, ranks=None)
    for number in (1, 2):
        folder = job.attempt(number)
        folder.logs.mkdir(parents=True)
        for rank in (0, 2, 10):
            folder.rank_log(rank).write_text("")
    found = log_files(job, attempt=None, ranks=None)
    assert [log.name for log in found] == ["launcher", "rank0", "rank2", "rank10"]
    assert all("0002" in str(log.path) for log in found)
    (one,) = log_files(job, attempt=1, ranks=[2])
    assert one.path == job.attempt(1).rank_log(2)
    with pytest.raises(NotFoundError, match="0, 2, 10"):
        log_files(job, attempt=1, ranks=[0, 3])
    with pytest.raises(NotFoundError, match="attempts 1 to 2"):
        log_files(job, attempt=3, ranks=None)
    (before,) = log_files(job, attempt=previous_attempt(job), ranks=[0])
    assert before.attempt == 1 and before.rank == 0
    with pytest.raises(NotFoundError, match="before"):
        previous_attempt(RunFolder(tmp_path / "other").job)


def test_a_file_that_was_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile("rank0", path)
    path.write_text("a long first line\n")
    assert list(log.new_lines()) == ["a long first line"]
    path.write_text("new\n")
    assert list(log.new_lines()) == ["new"]


def test_ranks() -> None:
    assert parse_ranks("3") == [3]
    assert parse_ranks("2-3, 0,3") == [0, 2, 3]
    for wrong in ("", "a", "3-1", "-1", "1-", "0-99999", "\u0661"):
        with pytest.raises(UsageError, match="--rank"):
            parse_ranks(wrong)
