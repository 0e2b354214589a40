"""`orchestra label`, as a process."""

from __future__ import annotations

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from tests.cli.conftest import Cli


def add_run(cli: Cli, run_id: str, name: str, parent: str = "") -> None:
    runs = RunsFolder(cli.root / "runs")
    runs.run(run_id).path.mkdir(parents=True)
    with open_registry(runs) as registry:
        registry.create_run(NewRun(run_id, name, "asr", "fbank", 0.0, 10, "00", parent=parent))


def test_label(cli: Cli) -> None:
    add_run(cli, "abcd2345", "first")
    add_run(cli, "efgh2345", "second")
    done = cli(
        "label", "first", "--name", "best", "--tag", "b", "--tag", "a", "--note", "a \x1b[2J"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "abcd2345  best\n  tags  a, b\n  note  a \\x1b[2J\n"
    assert "renamed from first to best" in done.stderr and "\x1b" not in done.stderr
    assert cli.json("label", "best", "--untag", "b", "--note", "") == {
        "id": "abcd2345",
        "name": "best",
        "tags": ["a"],
        "note": "",
        "changes": ["untagged b", "note removed"],
    }
    silent = cli("label", "best")
    assert (silent.stdout, silent.stderr) == ("abcd2345  best\n  tags  a\n", "")
    assert cli("label", "best", "--tag", "a").stderr == "nothing to change\n"
    held = cli("label", "best", "--name", "second")
    assert (held.returncode, held.stdout) == (4, "")
    assert "held by run efgh2345" in held.stderr
    assert cli("label", "first", "--tag", "x").returncode == 3, "the old name is free"


def test_a_label_of_a_parent_run_is_its_members(cli: Cli) -> None:
    for number in (1, 2):
        add_run(cli, f"m{number}", f"folds.{number}", "pa11")
    told = cli.json("label", "folds", "--tag", "paper")
    assert [(each["name"], each["tags"]) for each in told] == [
        ("folds.1", ["paper"]),
        ("folds.2", ["paper"]),
    ]
    refused = cli("label", "folds", "--name", "other")
    assert (refused.returncode, "folds is a parent run" in refused.stderr) == (2, True)
