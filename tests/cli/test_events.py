"""`orchestra events`: of all runs or one, followed as they happen."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState
from tests.cli.conftest import Cli


@pytest.fixture
def registry(cli: Cli) -> Iterator[Registry]:
    with open_registry(RunsFolder(cli.root / "runs")) as opened:
        for run_id in ("r1", "r2"):
            opened.create_run(NewRun(run_id, f"n-{run_id}", "asr", "none", 0.0, 9, "0"))
        yield opened


def texts(documents: list[dict[str, object]]) -> list[object]:
    return [one["text"] for one in documents]


def test_newest_last_of_all_or_one(cli: Cli, registry: Registry) -> None:
    registry.add_event("r1", "restart", "first \x1b[2J")
    registry.add_event("r2", "notice", "second", evaluation=3)
    found = cli.json("events", "--limit", "2")
    assert texts(found) == ["first \x1b[2J", "second"]
    assert {name: found[1][name] for name in ("run", "name", "kind", "evaluation")} == {
        "run": "r2", "name": "n-r2", "kind": "notice", "evaluation": 3,
    }  # fmt: skip
    assert found[0]["id"] < found[1]["id"]
    assert texts(cli.json("events", "r1", "-n", "1")) == ["first \x1b[2J"]
    lines = cli.ok("events", "-n", "2").splitlines()
    assert "\x1b" not in lines[0] and lines[0].endswith("n-r1  restart: first \\x1b[2J")
    assert lines[1].endswith("n-r2  evaluation 3  notice: second")


def test_nothing_yet(cli: Cli) -> None:
    done = cli("events")
    assert (done.returncode, done.stdout) == (0, "") and "nothing has happened" in done.stderr
    assert cli.json("events") == []
    assert cli("events", "r1").returncode == 3
    assert not (cli.root / "runs").exists(), "reading makes nothing"


def test_following_a_run_ends_with_it(cli: Cli, registry: Registry) -> None:
    registry.add_event("r1", "notice", "before")
    following = cli.start("events", "r1", "-f", "-n", "1", "--json", stdout=subprocess.PIPE)
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["text"] == "before"
    registry.add_event("r2", "notice", "another run's")
    registry.add_event("r1", "notice", "meanwhile")
    assert json.loads(following.stdout.readline())["text"] == "meanwhile"
    registry.transition(JobKey("r1"), {RunState.QUEUED}, RunState.STOPPED, reason="by hand")
    rest = following.communicate(timeout=60)[0]
    assert [json.loads(line)["kind"] for line in rest.splitlines()] == ["state"]
    assert following.returncode == 0


def test_following_all_goes_on_until_interrupted(cli: Cli, registry: Registry) -> None:
    following = cli.start("events", "-f", "-n", "1", stdout=subprocess.PIPE)
    assert following.stdout is not None
    following.stdout.readline()
    registry.add_event("r2", "notice", "now")
    assert following.stdout.readline().endswith("n-r2  notice: now\n")
    following.send_signal(signal.SIGINT)
    assert following.wait(60) == 130
    following.stdout.close()
