"""`--help` and `ls` load nothing slow, and no verb is loaded for another's sake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunsFolder
from tests.cli.conftest import Cli, make_cli

SLOW = {"torch", "numpy", "transformers", "textual", "git", "pydantic", "sqlite_utils"}


PROGRAM = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv[0] = "orchestra"
from orchestra.cli.main import main
main()
"""


def loaded(cli: Cli, *words: str) -> set[str]:
    """All modules that a command has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=cli.root,
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A workspace with one queued run."""
    made = make_cli(tmp_path_factory.mktemp("start") / "workspace")
    with open_registry(RunsFolder(made.root / "runs")) as registry:
        registry.create_run(NewRun("abcd2345", "one", "example", "fbank", 0.0, 10, "00"))
    return made


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("ls",),
        ("run", "--help"),
        ("ls", "--json"),
        ("ls", "cfg.optim.lr>0", "--sort=name"),
    ],
)
def test_loads_nothing_slow(cli: Cli, words: tuple[str, ...]) -> None:
    modules = loaded(cli, *words)
    assert "typer" in modules
    assert not {module.split(".")[0] for module in modules} & SLOW


def test_a_plain_ls_loads_no_filter(cli: Cli) -> None:
    query = "orchestra.schedule.query"
    assert query not in loaded(cli, "ls", "--columns", "id,tags")
    assert query in loaded(cli, "ls", "asr")


def test_the_check_sees_what_is_loaded(cli: Cli) -> None:
    assert "pydantic" in loaded(cli, "config", "schema", "example")


def test_a_verb_loads_only_itself(cli: Cli) -> None:
    verbs = {module for module in loaded(cli, "tasks") if module.startswith("orchestra.cli.verbs.")}
    assert verbs == {"orchestra.cli.verbs.tasks"}
