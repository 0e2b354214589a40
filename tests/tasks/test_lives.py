"""Each task on its tiny corpus through real processes: made, prepared, trained to its score, a rank
killed and the run continued, evaluated on 1 and 2 ranks, its audio predicted.

Long: run by `make tasks`. What `make test` holds of every task stands in test_contract.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.job import JobState
from orchestra.wire.states import ENDED
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import Cli, make_cli, stop_all

pytestmark = [pytest.mark.tasks, pytest.mark.slow]


@dataclass(frozen=True)
class Bar:
    """What a task's README promises of its tiny corpus."""

    corpus: str
    metric: str
    least: float | None = None
    most: float | None = None
    sets: tuple[str, ...] = ()
    """What its run is given besides."""

    def holds(self, value: float) -> bool:
        """Whether a score is good enough."""
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)


BARS = {
    "er": Bar("iemocap", "accuracy", least=75.0, sets=("--set", "task.fold=1")),
    "ic": Bar("fluent_commands", "accuracy", least=50.0),
    "asv": Bar("voxceleb1-trials", "eer", most=12.0),
    "ks": Bar("speech_commands", "accuracy", least=70.0),
    "sid": Bar("voxceleb1", "accuracy", least=60.0),
    "pr": Bar("libriphone", "per", most=30.0),
    "sd": Bar("libri2mix", "der", most=10.0),
    "sf": Bar("snips", "slot_type_f1", least=90.0),
}


@pytest.fixture(scope="module", params=sorted(BARS))
def lived(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The task, its bar, a workspace, and the run that was killed on its way."""
    cli = make_cli(tmp_path_factory.mktemp(request.param) / "workspace")
    try:
        yield request.param, cli, _live(request.param, cli)
    finally:
        stop_all(cli)


def _live(task: str, cli: Cli) -> Any:
    """What is known of a run that was killed on its way and has ended."""
    root = cli.root / "corpus"
    (cli.root / ".gitignore").write_text("runs\ncorpus\n")
    cli.ok("data", "synth", BARS[task].corpus, "--root", str(root))
    cli.ok("data", "prepare", BARS[task].corpus, "--root", str(root))
    words = (f"{task}-tiny", "--cpu", "--nproc", "2", "--seed", "1", *BARS[task].sets)
    words += ("--set", "checkpoint.every=5")  # the shortest of them takes two seconds
    run = cli.ok(
        "run", task, "--preset", *words, "--set", f"data.root='{root}'", "--detach"
    ).strip()
    _kill_a_rank(cli, run)
    waiting = cli.start("wait", run, stdout=subprocess.PIPE)
    assert waiting.communicate(timeout=600)[0].strip() == "completed"
    return cli.json("show", run)


def _kill_a_rank(cli: Cli, run: str) -> None:
    """Once there is a checkpoint to continue from."""
    checkpoints = cli.root / "runs" / run / "checkpoints"
    wait_for("a checkpoint", lambda: any(checkpoints.glob("step-*")))
    os.kill(cli.json("show", run)["attempts"][-1]["ranks"][-1]["pid"], signal.SIGKILL)


def test_it_reaches_its_score_although_a_rank_was_killed(lived: Any) -> None:
    task, _, run = lived
    assert len(run["attempts"]) == 2
    assert run["attempts"][1]["first_step"] > 0
    (result,) = [row for row in run["evaluations"] if row["state"] == "completed"]
    value = result["metrics"][BARS[task].metric]
    print(f"\n{task}: {BARS[task].metric} {value:.2f}")
    assert BARS[task].holds(value)


def test_ranks_do_not_change_a_number(lived: Any) -> None:
    _, cli, run = lived
    split = run["evaluations"][0]["split"]
    for ranks in ("1", "2"):
        cli.ok("eval", run["id"], "--split", split, "--cpu", "--nproc", ranks)
    *_, one, two = cli.json("show", run["id"])["evaluations"]
    assert one["metrics"] == two["metrics"] == run["evaluations"][0]["metrics"]
    assert Path(one["predictions"]).read_bytes() == Path(two["predictions"]).read_bytes()


def test_what_is_predicted_is_what_was_evaluated(lived: Any) -> None:
    _, cli, run = lived
    evaluated = {record["id"]: record for record in _records(run["evaluations"][0]["predictions"])}
    split = run["evaluations"][0]["split"]
    predicted = map(json.loads, cli.ok("predict", run["id"], "--split", split).splitlines())
    count = 0
    for record in predicted:
        del record["path"]
        assert record.items() <= evaluated[record["id"]].items()
        count += 1
    assert count == len(evaluated)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = make_cli(tmp_path / "workspace")
    yield made
    stop_all(made)


def test_ers_folds_are_one_run_of_which_one_may_fail(cli: Cli) -> None:
    root = cli.root / "corpus"
    (cli.root / ".gitignore").write_text("runs\ncorpus\n")
    cli.ok("data", "synth", "iemocap", "--root", str(root))
    cli.ok("data", "prepare", "iemocap", "--root", str(root))
    sets = (f"data.root='{root}'", "checkpoint.every=5", "launch.max_restarts=0")
    words = ["er-tiny", "--cpu", "--seed", "1", *(w for text in sets for w in ("--set", text))]
    cli.ok("run", "er", "--preset", *words, "--name", "folds", "--detach")
    _wait(cli, "folds.1")
    _kill_a_rank(cli, cli.json("show", "folds.2")["id"])
    _wait(cli, *(f"folds.{number}" for number in (2, 3, 4, 5)))
    assert cli("wait", "folds").returncode == 1
    parent = cli.json("show", "folds")
    states = [member["state"] for member in parent["members"]]
    assert (parent["state"], states) == ("failed", ["completed", "failed", *["completed"] * 3])
    assert "SIGKILL" in cli.ok("show", "folds") and "(4 of 5)" in cli.ok("ls")
    before = parent["scores"][0]["values"]
    assert [value is None for value in before] == [False, True, False, False, False]
    cli.ok("resume", "folds", "--detach")
    _wait(cli, "folds.2")
    parent = cli.json("show", "folds")
    score = parent["scores"][0]
    assert (parent["state"], score["metric"], len(score["values"])) == ("completed", "accuracy", 5)
    assert score["values"][2:] == before[2:]
    assert score["mean"] == fmean(score["values"]) >= BARS["er"].least
    assert score["deviation"] == stdev(score["values"])


def _wait(cli: Cli, *names: str) -> None:
    """For the runs' ends, each for its own while."""
    for name in names:
        job = RunsFolder(cli.root / "runs").run(cli.json("show", name)["id"]).job
        wait_for(f"the end of {name}", partial(_has_ended, job), 120)


def _has_ended(job: Job) -> bool:
    return JobState.read(job).state in ENDED


def _records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
