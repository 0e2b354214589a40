"""`orchestra tensorboard`: what it shows, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.schedule.tensorboard import link, runs_meant
from orchestra.wire.folders import RunsFolder
from orchestra.workspace import Workspace, init_workspace
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import Cli


def make_run(runs: RunsFolder, run_id: str, attempts: int = 1) -> None:
    with open_registry(runs) as registry:
        registry.create_run(NewRun(run_id, f"n-{run_id}", "asr", "none", 0.0, 9, "0"))
    for number in range(1, attempts + 1):
        runs.run(run_id).job.attempt(number).tensorboard.mkdir(parents=True)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return init_workspace(tmp_path / "workspace")


def links(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_symlink())
    return {str(path.relative_to(folder)): str(path.readlink()) for path in found}


def test_links_are_named_by_run_and_attempt_and_grow(place: Workspace, tmp_path: Path) -> None:
    make_run(place.runs, "r1", attempts=2)
    make_run(place.runs, "r2", attempts=0)
    runs = runs_meant(place, ["r1", "n-r2", "r1"])
    folder = tmp_path / "links"
    folder.mkdir()
    link(folder, place, runs)
    assert sorted(links(folder)) == ["n-r1/attempt-1", "n-r1/attempt-2"]
    place.runs.run("r2").job.attempt(1).tensorboard.mkdir(parents=True)
    link(folder, place, runs)
    assert "n-r2/attempt-1" in links(folder)
    assert all(Path(target).is_dir() for target in links(folder).values())


def test_without_a_name_those_that_live_else_the_newest(place: Workspace) -> None:
    make_run(place.runs, "old")
    make_run(place.runs, "new")
    live = [run.id for run in runs_meant(place, [])]
    assert live == ["new"]  # queued ones do not live


def test_no_runs(cli: Cli) -> None:
    assert cli("tensorboard").returncode == 3
    assert "no runs yet" in cli("tensorboard").stderr


RARER = [
    pytest.param(number, marks=pytest.mark.chaos) for number in (signal.SIGTERM, signal.SIGKILL)
]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, *RARER])
def test_it_serves_the_points_until_it_is_interrupted(
    cli: Cli, number: int, tmp_path: Path
) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    runs = RunsFolder(cli.root / "runs")
    make_run(runs, "r1")
    writer = EventFileWriter(str(runs.run("r1").job.attempt(1).tensorboard))
    point = Summary(value=[Summary.Value(tag="train/loss", simple_value=2.5)])
    writer.add_event(Event(step=1, wall_time=1.0, summary=point))
    writer.close()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    cli.environment["TMPDIR"] = os.fspath(temporary)
    board = cli.start("tensorboard", "--port", "0", stderr=subprocess.PIPE, process_group=0)
    try:
        assert board.stderr is not None
        lines = iter(board.stderr.readline, "")
        address = next(m[0] for line in lines if (m := re.search(r"http://localhost:\d+/", line)))
        wait_for("its run", lambda: ask(address + "data/runs") == ["n-r1/attempt-1"])
        assert len(list(temporary.iterdir())) == 1 and len(group(board.pid)) == 2
        if number == signal.SIGINT:
            os.killpg(board.pid, number)  # as a terminal does
        else:
            board.send_signal(number)
        assert board.wait(60) == (-number if number == signal.SIGKILL else 130)
        wait_for("its processes to go", lambda: not group(board.pid))
        assert number == signal.SIGKILL or list(temporary.iterdir()) == []
    finally:
        if group(board.pid):
            os.killpg(board.pid, signal.SIGKILL)
        board.communicate()


def ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


def group(number: int) -> list[str]:
    """Processes of the process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == number and fields[0] != "Z":
            found.append(stat.parent.name)
    return found
