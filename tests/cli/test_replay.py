"""orchestra replay on a run that failed: real processes, from the launch to the utterance."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.cli.verbs import replay
from orchestra.wire.exit_codes import ExitCode
from tests.cli.conftest import Cli, make_cli, stop_all
from tests.train.faults import FAULTY, GUILTY

pytestmark = pytest.mark.slow

PRESET = """
[upstream]
kind = "fbank"
mels = 20
[data]
workers = 0
[batch]
seconds = 2.0
max_micro_seconds = 1.0
[optim]
lr = 0.01
[train]
max_steps = 40
eval_every = 50
[checkpoint]
every = 50
[launch]
backoff_s = 0.1
"""


@pytest.mark.parametrize(
    ("alone", "what", "text"),
    [
        (["b"], "not finite", "it is enough to have: b\n"),
        (["a", "b", "c"], "not finite", "3 of the 4 utterances .* the weights are at fault.*lr"),
        (["a", "b", "c"], "exception", "3 of the 4 utterances .* the code is at fault"),
        ([], "not finite", "no utterance of that micro-batch does it alone"),
    ],
)
def test_who_is_guilty(
    capsys: pytest.CaptureFixture[str], alone: list[str], what: str, text: str
) -> None:
    healthy = {"ids": ["x"], "finding": None}
    found = {"ids": ["a", "b", "c", "d"], "finding": {"what": what}}
    replay._guilt({"alone": alone, "micro_batches": [healthy, found]})
    assert re.search(text, capsys.readouterr().out)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A workspace with two runs: `nan` failed at its 20th NaN, `error` with an exception."""
    cli = make_cli(tmp_path_factory.mktemp("replay") / "workspace")
    shutil.copytree(FAULTY / "tasks" / "faulty", cli.root / "tasks" / "faulty")
    preset = cli.root / "faulty.toml"
    preset.write_text(PRESET)
    faulty = ("run", "faulty", "--cpu", "--preset", str(preset), "--upstream", "fbank")
    for fault, guilty in (("nan", "*"), ("error", GUILTY)):
        sets = (f"task.fault={fault}", f"task.guilty={guilty}", "launch.max_restarts=0")
        words = [word for each in sets for word in ("--set", each)]
        done = cli(*faulty, "--name", fault, *words)
        assert done.returncode == ExitCode.FAILED, done.stderr
    yield cli
    stop_all(cli)


def test_nan_at_the_limit_names_the_capsule_and_is_reproduced(broken: Cli) -> None:
    run = broken.json("show", "nan")
    (capsule,) = run["capsules"]
    assert capsule["step"] == 1
    assert f"(capsule {capsule['name']})" in run["reason"]
    assert capsule["name"] in broken.ok("show", "nan")
    text = broken.ok("replay", "nan")
    assert f"{capsule['name']}: loss is not finite" in text
    assert "the first that is not finite: output of head.gate (NaN)" in text
    assert "reproduced on cpu" in text


def test_an_exception_names_its_utterance_under_the_runs_own_code(broken: Cli) -> None:
    (capsule,) = broken.json("show", "error")["capsules"]
    task = broken.root / "tasks" / "faulty" / "task.py"
    # The mended task of the workspace is not what failed.
    task.write_text(task.read_text().replace("raise ValueError", "print"))
    document = broken.json("replay", "error", "--capsule", str(capsule["step"]))
    assert document["alone"] == [GUILTY]
    assert document["capsules"] == [capsule["name"]]


def test_not_reproduced(broken: Cli) -> None:
    config = next(Path(broken.json("show", "error")["folders"]["run"]).glob("config.toml"))
    written = config.read_text()
    config.write_text(written.replace('fault = "error"', 'fault = "none"'))
    try:
        done = broken("replay", "error")
    finally:
        config.write_text(written)
    assert done.returncode == ExitCode.FAILED
    assert "not reproduced on cpu" in done.stdout
    assert "config has changed" in done.stdout


def test_no_capsule_and_no_such_capsule_are_not_found(broken: Cli) -> None:
    (capsule,) = broken.json("show", "nan")["capsules"]
    done = broken("replay", "nan", "--capsule", "step-00000777")
    assert done.returncode == ExitCode.NOT_FOUND
    assert f"there are {capsule['name']}" in done.stderr
    folder = Path(capsule["path"]).parents[1]
    aside = folder.rename(folder.with_name("aside"))
    try:
        done = broken("replay", "nan")
    finally:
        aside.rename(folder)
    assert done.returncode == ExitCode.NOT_FOUND
    assert "has no capsule" in done.stderr
