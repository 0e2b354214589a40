"""A parent run by real processes: members one after another, mean and spread, resume, deletion."""

from __future__ import annotations

import signal
import statistics
import subprocess
from pathlib import Path

import pytest

from orchestra.formats import number
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from orchestra.wire.states import RunState
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow

FAMILY = """# two noises
[each]
"task.noise" = [0.1, 0.3]

[task]
train_utterances = 80
other_utterances = 11
"""


def make_family(cli: Cli) -> tuple[str, ...]:
    (cli.root / "presets").mkdir(exist_ok=True)
    Path(cli.root / "presets" / "family.toml").write_text(FAMILY)
    return ("run", "example", "-p", "example", "-p", "debug", "-p", "family", "--cpu")


def steps_are_taken(runs: RunsFolder) -> bool:
    if not runs.registry.is_file():
        return False
    with open_registry(runs) as registry:
        return any(row.step for row in registry.list_runs(states={RunState.RUNNING}))


def test_members_are_trained_one_after_another_and_scored_together(cli: Cli) -> None:
    run = make_family(cli)
    assert "2: task.noise=0.1; task.noise=0.3" in cli.ok(*run, "--dry-run")
    shown = cli.ok(*run, "--name", "both")
    assert "parent run of 2" in shown and "task.noise=0.3" in shown
    parent = cli.json("show", "both")
    assert (parent["state"], parent["name"]) == ("completed", "both")
    assert [member["name"] for member in parent["members"]] == ["both.1", "both.2"]
    first, second = (cli.json("show", member["id"]) for member in parent["members"])
    assert second["attempts"][0]["started_at"] >= first["attempts"][0]["ended_at"]
    assert first["progress"]["loss"] != second["progress"]["loss"]
    configs = [Path(run["folders"]["run"], "config.toml").read_text() for run in (first, second)]
    assert ["noise = 0.1" in configs[0], "noise = 0.3" in configs[1]] == [True, True]
    seeds = {line for text in configs for line in text.splitlines() if line.startswith("seed")}
    assert len(seeds) == 1
    scores = [run["evaluations"][0]["metrics"]["accuracy"] for run in (first, second)]
    (score,) = parent["scores"]
    assert score["values"] == scores
    assert score["mean"] == statistics.fmean(scores)
    assert score["deviation"] == statistics.stdev(scores)
    assert {row["id"] for row in cli.json("ls", f"parent:{parent['id']}")} == {
        first["id"],
        second["id"],
    }
    brief = f"accuracy {number(score['mean'])} +- {number(score['deviation'])} (2 of 2)"
    assert brief in cli.ok("ls") and brief not in cli.ok("ls", "--columns", "id,parent,member")
    page = cli.ok("show", "both")
    assert all(f"accuracy {number(value)}" in page for value in scores)
    refused = cli("eval", "both", "--split", "test")
    assert (refused.returncode, "both is a parent run" in refused.stderr) == (3, True)
    assert cli.ok("wait", "both").strip() == "completed"
    taken = cli(*run, "--name", "both")
    assert (taken.returncode, "both.1" in taken.stderr) == (4, True)
    cli.ok("rm", "both.1", "--yes")
    assert "removed: task.noise=0.1" in cli.ok("show", "both")
    assert "(1 of 2)" in cli.ok("ls")
    cli.ok("rm", "both", "--yes")
    assert cli.json("ls") == []


@pytest.mark.chaos
def test_a_stopped_parent_is_resumed_with_the_members_that_are_left(cli: Cli) -> None:
    run = make_family(cli)
    slow = ("--set", "task.delay_s=0.1", "--set", "checkpoint.every=1")
    parent = cli.ok(*run, *slow, "--detach").strip()
    cli.ok("stop", parent)
    states = [row["state"] for row in cli.json("show", parent)["members"]]
    assert states == ["stopped", "stopped"]
    assert cli("wait", parent).returncode == 1
    cli.ok("resume", parent)
    assert cli.json("show", parent)["state"] == "completed"
    assert cli("resume", parent).returncode == 4


@pytest.mark.chaos
def test_ctrl_c_stops_all_members_and_starts_none_for_it(cli: Cli) -> None:
    slow = ("--set", "task.delay_s=0.1", "--set", "checkpoint.every=1")
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    attached = cli.start(*make_family(cli), *slow, "--name", "both", **piped)
    wait_for("a step of the first", lambda: steps_are_taken(RunsFolder(cli.root / "runs")))
    attached.send_signal(signal.SIGINT)
    _, told = attached.communicate(timeout=60)
    assert attached.returncode == 130, told
    first, second = (cli.json("show", f"both.{number}") for number in (1, 2))
    assert (first["state"], second["state"]) == ("stopped", "stopped")
    assert (len(first["attempts"]), second["attempts"]) == (1, [])


def test_one_value_makes_one_run_and_one_run_options_are_refused(cli: Cli) -> None:
    run = make_family(cli)
    refused = cli(*run, "--name", "x", "--or-resume")
    assert (refused.returncode, "makes 2 members" in refused.stderr) == (2, True)
    wrong = cli("run", "example", "--cpu", "--set", 'each={"task.nose"=[1]}')
    assert (wrong.returncode, "task.nose" in wrong.stderr) == (2, True)
    assert cli.json("ls") == []
    assert "members" not in cli.ok(*run, "--set", "task.noise=0.2", "--dry-run")
