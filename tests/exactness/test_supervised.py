"""A run as a user starts it: what dies is restarted by orchestra, and the numbers are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestra.wire.folders import Job
from tests.cli.conftest import SHORT, Cli, make_cli, stop_all
from tests.exactness.conftest import CELL
from tests.exactness.launching import PATIENCE_S, final_state, predicted

pytestmark = [pytest.mark.slow, pytest.mark.exactness, pytest.mark.xdist_group("supervised")]

RANKS, STEPS = 3, 30
KEYS = {"seed": 1, "train.max_steps": STEPS, "checkpoint.every": 5, "task.delay_s": 0.05}
RUN = (*SHORT, "--nproc", str(RANKS), *(f"--set={key}={value}" for key, value in KEYS.items()))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """With a run that nothing disturbed, called `straight`."""
    made = make_cli(tmp_path_factory.mktemp("supervised") / "workspace")
    made.ok("run", *RUN, "--name", "straight")
    yield made
    stop_all(made)


@pytest.mark.parametrize(("victim", "state"), [("rank", "crashed"), ("supervisor", "lost")])
def test_orchestra_goes_on_as_if_nothing_had_died(
    workspace: Cli, record_property: Callable[[str, object], None], victim: str, state: str
) -> None:
    record_property(CELL, f"ranks {RANKS}  orchestra run, SIGKILL of a {victim}")
    restarts = "--set=launch.max_restarts=1"
    workspace.ok("run", *RUN, restarts, "--name", victim, "--detach")
    shown = _with_a_checkpoint(workspace, victim)
    last_rank = shown["attempts"][0]["ranks"][-1]
    os.kill({"rank": last_rank, "supervisor": shown["supervisor"]}[victim]["pid"], signal.SIGKILL)
    workspace.ok("wait", victim)
    attempts = workspace.json("show", victim)["attempts"]
    assert [attempt["state"] for attempt in attempts] == [state, "completed"]
    assert attempts[1]["first_step"] >= 5
    job, whole = _job(workspace, victim), _job(workspace, "straight")
    assert final_state(job, STEPS) == final_state(whole, STEPS)
    assert predicted(job) == predicted(whole)


def test_ranks_forked_by_the_launcher_train_as_those_of_plain_torchrun(
    workspace: Cli, record_property: Callable[[str, object], None]
) -> None:
    record_property(CELL, f"ranks {RANKS}  forked by the launcher, started by plain torchrun")
    whole = _job(workspace, "straight")
    plain = Job("train", whole.folder.with_name("plain"))
    plain.folder.mkdir()
    shutil.copy(whole.config, plain.config)
    command = workspace.json("show", "straight")["command"]
    words = [word.replace(str(whole.folder), str(plain.folder)) for word in command]
    subprocess.run(words, cwd=workspace.root, check=True, capture_output=True, timeout=PATIENCE_S)
    assert final_state(plain, STEPS) == final_state(whole, STEPS)
    assert predicted(plain) == predicted(whole)


def _with_a_checkpoint(cli: Cli, run: str) -> Any:
    """What `show` tells of a run as soon as it has something to restart from."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shown = cli.json("show", run)
        if shown["checkpoints"] and shown["attempts"][0]["ranks"]:
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


def _job(cli: Cli, run: str) -> Job:
    return Job("train", cli.root / "runs" / cli.json("show", run)["id"])
