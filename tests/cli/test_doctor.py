"""`doctor --gpus 0` as a real process: it finds this machine in order, and leaves nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestra.supervise import tree
from tests.chaos.sandbox import wait_for
from tests.cli.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.chaos]  # a minute each


@pytest.fixture
def scratch(cli: Cli, tmp_path: Path) -> Path:
    """Where it makes its folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    cli.environment["TMPDIR"] = str(folder)
    return folder


def leavings(scratch: Path) -> list[object]:
    processes = [item for item in tree.scan() if item.workspace.startswith(str(scratch))]
    return [*scratch.glob("orchestra-doctor-*"), *processes]


def test_all_is_in_order_and_nothing_is_left(cli: Cli, scratch: Path) -> None:
    process = cli.start("doctor", "--gpus", "0", "--json", stdout=-1)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    for name in ("all-reduce", "job: start", "job: kill", "job: stop", "job: resume"):
        assert f'"name": "{name}"' in output
    assert leavings(scratch) == []
    assert not (cli.root / "runs").exists()


def test_interrupted_it_leaves_nothing_either(cli: Cli, scratch: Path) -> None:
    process = cli.start("doctor", "--gpus", "0", stdout=-1)
    ranks = scratch.glob
    wait_for("ranks", lambda: [*ranks("*/workspace/runs/*/attempts/*/logs/rank1.log")], 120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert leavings(scratch) == []
