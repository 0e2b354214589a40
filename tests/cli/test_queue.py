"""The queue as a user sees it. A lease held by the test keeps the only GPU: nothing ever trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.gpu.lease_file import FOLDER
from orchestra.gpu.leases import Leases
from orchestra.gpu.probe import Prober
from tests.cli.conftest import Cli, git
from tests.fakes.nvml import FakeNvml

GPU = ("run", "example", "--preset", "debug", "--gpus", "1")
HELD = "leased by run theirs of user "


@pytest.fixture
def full(cli: Cli, nvml: FakeNvml, tmp_path: Path) -> Iterator[Cli]:
    """A machine whose only GPU another workspace has."""
    nvml.idle(1)
    cli.environment |= nvml.environment | {FOLDER: str(tmp_path / "leases")}
    with Leases() as theirs, Prober() as prober:
        theirs.take(prober.read().devices, prober, "theirs", Path("/theirs"), named=False)
        yield cli


def test_an_empty_queue_is_a_sentence(cli: Cli) -> None:
    done = cli("queue")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing waits\n")
    assert cli.json("queue") == []
    assert not (cli.root / "runs").exists()


def test_who_waits_and_for_what(full: Cli) -> None:
    first = full(*GPU, "--name", "first", "--detach")
    assert first.returncode == 0, first.stderr
    assert "queued at position 1: needs 1 GPU, 0 free; next when they are free" in first.stderr
    first_id = first.stdout.strip()
    second = full(*GPU, "--name", "second", "--detach", "--priority", "1")
    assert "queued at position 1: " in second.stderr
    third = full(*GPU, "--name", "third", "--detach", "--after", "first")
    assert f"queued: waits for run {first_id}, which is queued" in third.stderr
    found = full.json("queue")
    assert [(row["name"], row["position"], row["priority"]) for row in found] == [
        ("second", 1, 1),
        ("first", 2, 0),
        ("third", None, 0),
    ]
    assert found[1]["reason"] == f"needs 1 GPU, 0 free; behind {second.stdout.strip()}"
    assert (found[1]["gpus"], found[2]["after"]) == (1, first_id)
    lines = full.ok("queue").splitlines()
    assert lines[0].split() == ["POSITION", "ID", "NAME", "GPUS", "PRIORITY", "QUEUED", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "-"]
    assert json.loads(full.ok("ls", "--state", "queued", "--json"))[0]["name"] == "third"
    assert full.json("show", "second")["waits"] == {"position": 1, "reason": found[0]["reason"]}
    (line,) = [line for line in full.ok("show", "first").splitlines() if "  waits " in line]
    assert line.split(maxsplit=1)[1] == f"at position 2: {found[1]['reason']}"
    stopped = full("stop", "first")
    assert "it saves and ends" not in stopped.stderr
    assert f"{first_id} stopped: stopped before it started" in stopped.stdout
    assert full.json("show", "first")["waits"] is None
    assert "which was stopped: resume it or stop this one" in full.ok("queue")


def test_no_queue_refuses_and_leaves_nothing(full: Cli) -> None:
    done = full(*GPU, "--no-queue")
    assert done.returncode == 4
    assert "needs 1 GPU, 0 free" in done.stderr
    assert f"GPU 0: {HELD}" in done.stderr
    assert " in " + str(full.root) not in done.stderr, "no folder is named that is gone"
    assert done.stdout == "" and full.json("ls") == [] and full.json("queue") == []
    folders = [path for path in (full.root / "runs").iterdir() if path.is_dir()]
    assert [path.name for path in folders] == [".snapshots"]
    assert "refs/orchestra" not in git(full.root, "for-each-ref")


def test_no_queue_contradicts_waiting(cli: Cli) -> None:
    done = cli(*GPU, "--no-queue", "--after", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "contradicts --after" in done.stderr


def test_no_queue_leaves_a_run_of_before_as_it_was(full: Cli) -> None:
    again = (*GPU, "--seed", "3", "--name", "mine", "--or-resume")
    run_id = full.ok(*again, "--detach").strip()
    followed = full(*again, "--detach", "--no-queue")
    assert followed.returncode == 0 and f"run {run_id} (mine) is queued already" in followed.stderr
    full.ok("stop", "mine")
    refused = full(*again, "--no-queue")
    assert refused.returncode == 4 and f"GPU 0: {HELD}" in refused.stderr
    assert full.json("show", "mine")["state"] == "stopped"
