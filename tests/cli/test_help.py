"""Help is the manual: each verb has examples before its options, and the exit codes."""

from __future__ import annotations

from importlib import import_module

import pytest
from typer.testing import CliRunner

from orchestra.cli.main import VERBS, build, overview
from tests.cli.conftest import Cli

PROMISED = (
    "run resume clone eval export predict score tui ls queue show diff label checkpoints logs "
    "metrics events tensorboard replay wait stop rm gc gpus up reap service task tasks upstreams "
    "fetch presets config data doctor init"
)


def leaves() -> list[tuple[str, ...]]:
    """Every command, `config show` among them."""
    found: list[tuple[str, ...]] = []
    for name, module in VERBS.items():
        inner = getattr(import_module(f"orchestra.cli.verbs.{module}"), "VERBS", None)
        found += [(name,)] if inner is None else [(name,), *((name, part) for part in inner)]
    return found


def test_all_verbs_are_there() -> None:
    assert list(VERBS) == PROMISED.split()
    assert {("config", part) for part in ("show", "explain", "schema")} < set(leaves())
    assert {
        ("data", part) for part in ("corpora", "synth", "prepare", "import", "check", "stats")
    } < set(leaves())


@pytest.mark.parametrize("words", [(), *leaves()], ids=" ".join)
def test_examples_come_first_then_options_then_exit_codes(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "78")  # the runner draws two columns more than a terminal
    app = build([words[0]]) if words else overview()
    text = CliRunner().invoke(app, [*words, "--help"], prog_name="orchestra").stdout
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "..." not in text.partition("Commands:")[2], "each first sentence is short enough"
    examples, options = text.index("Examples:"), text.index("Options:")
    assert f"orchestra {' '.join(words)}".strip() in text[examples:options]
    assert examples < options < text.index("Exit codes:")
    assert "130  interrupted" in text


def test_help_runs_as_a_process_outside_of_any_workspace(cli: Cli) -> None:
    done = cli("--help", cwd=cli.root.parent)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: orchestra ")
    assert cli("--version").stdout.startswith("orchestra 0.")
