"""`orchestra logs`: whose lines, in which order, for whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestra.cli.main import build
from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace

RUN = "abcd2345"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One failed run of two attempts with two ranks each."""
    made = init_workspace(tmp_path)
    with open_registry(made.runs) as registry:
        registry.create_run(NewRun(RUN, "first", "example", "fbank", 0.0, 10, "00"))
        registry.transition(JobKey(RUN), RunState, RunState.FAILED, reason="x")
    for number in (1, 2):
        attempt = made.runs.run(RUN).job.attempt(number)
        attempt.logs.mkdir(parents=True)
        attempt.agent_log.write_text("launcher here\n")
        for rank in range(2):
            attempt.rank_log(rank).write_text(
                f"2026-01-01 00:00:0{number},00{rank} INFO start {number}\n"
                f"2026-01-01 00:00:0{number},10{rank} INFO Step of rank {rank}\ntorn"
            )
    return made


class Logs:
    def __init__(self, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
        self._workspace = workspace
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        app = build(["logs"])
        app(["--workspace", str(self._workspace.root), "logs", RUN, *words], standalone_mode=False)
        return self._capsys.readouterr().out


@pytest.fixture
def logs(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Logs:
    return Logs(workspace, capsys)


def test_ranks_and_attempts(logs: Logs) -> None:
    assert logs("--rank", "1").splitlines()[0] == "2026-01-01 00:00:02,001 INFO start 2"
    both = logs("--rank", "0-1", "--tail", "1").splitlines()
    assert both == ["rank0 | torn", "rank1 | torn"]
    assert "start 1" in logs("--previous") and "start 2" not in logs("--attempt", "1")
    with pytest.raises(NotFoundError, match="ranks with one: 0, 1"):
        logs("--rank", "0-2")
    for wrong in (("--rank", "x"), ("--previous", "--attempt", "1"), ("--raw", "--json")):
        with pytest.raises(UsageError):
            logs(*wrong)


def test_grep_is_smart_about_case(logs: Logs) -> None:
    assert (
        logs("--rank", "0", "--grep", "step of") == "2026-01-01 00:00:02,100 INFO Step of rank 0\n"
    )
    assert logs("--rank", "0", "--grep", "STEP") == ""


def test_merged_lines_of_ranks_that_say_the_same_stand_once(logs: Logs) -> None:
    for words in (("--merge",), ("--merge", "--follow"), ("--merge", "--tail", "100")):
        assert logs(*words).splitlines() == [
            "[0-1] 2026-01-01 00:00:02,000 INFO start 2",
            "[0] 2026-01-01 00:00:02,100 INFO Step of rank 0",
            "[0] torn",
            "[1] 2026-01-01 00:00:02,101 INFO Step of rank 1",
            "[1] torn",
            "[launcher] launcher here",
        ]


def test_json_lines(logs: Logs) -> None:
    documents = [json.loads(line) for line in logs("--json").splitlines()]
    assert documents[0] == {
        "attempt": 2, "log": "launcher", "rank": None, "ranks": [], "line": "launcher here",
    }  # fmt: skip
    assert [each["rank"] for each in documents[1:]] == [0, 0, 0, 1, 1, 1]
    merged = [json.loads(line) for line in logs("--json", "--merge").splitlines()]
    assert merged[0]["ranks"] == [0, 1] and merged[0]["line"].endswith("start 2")


def test_raw_is_byte_for_byte(
    workspace: Workspace, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    data = b"\x1b]0;x\x07\xff\x00\r 10%\r 20%\r\nend"
    workspace.runs.run(RUN).job.attempt(2).rank_log(0).write_bytes(data)
    app = build(["logs"])
    words = ["--workspace", str(workspace.root), "logs", RUN, "--rank", "0", "--raw"]
    app(words, standalone_mode=False)
    assert capfdbinary.readouterr().out == data
