"""`orchestra clone`: a real run, and its clone that finds the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import SHORT, Cli

pytestmark = pytest.mark.slow


@pytest.mark.chaos
def test_an_unchanged_clone_ends_with_the_same_numbers(cli: Cli) -> None:
    cli.ok("run", *SHORT, "--name", "first", "--quiet")
    before = cli.ok("clone", "first", "--dry-run", "--set", "optim.lr=0.5")
    assert ["changed", "optim.lr"] in [line.split() for line in before.splitlines()]
    assert len(cli.json("ls")) == 1
    cli.ok("clone", "first", "--name", "second", "--tag", "again", "--quiet")
    first, second = cli.json("show", "first"), cli.json("show", "second")
    assert second["state"] == "completed" and second["clone_of"] == first["id"]
    assert second["config_sha256"] == first["config_sha256"]
    assert second["progress"]["loss"] == first["progress"]["loss"]
    assert second["evaluations"][0]["metrics"] == first["evaluations"][0]["metrics"]
    assert second["tags"] == ["again"]
    other = cli.ok("clone", "first", "--seed", "99", "--detach").strip()
    assert cli.ok("wait", other) is not None
    shown = cli.json("show", other)
    assert shown["progress"]["loss"] != first["progress"]["loss"], "the comparison sees a change"
    folder = Path(shown["folders"]["run"])
    assert "seed = 99" in (folder / "config.toml").read_text()


def test_wrong_ones_leave_nothing(cli: Cli) -> None:
    assert cli("clone", "nobody").returncode == 3
    assert cli("clone", "nobody", "--cpu", "--gpus", "2").returncode == 2
    assert cli.json("ls") == []
