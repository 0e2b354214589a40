"""The README tells the truth about names: verbs, test files, presets, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

from orchestra.cli.main import VERBS
from orchestra.wire.exit_codes import ExitCode
from tests.readme import written

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_verb_is_told() -> None:
    table = README[README.index("## Commands") : README.index("## Config")]
    told = set(re.findall(r"`(\w+)[^`]*`", table.replace("`, `", "` `")))
    assert set(VERBS) <= told


def test_every_command_shown_is_a_verb() -> None:
    shown = re.findall(r"orchestra (\w+) ", "\n".join(re.findall(r"^    .*$", README, re.M)))
    assert shown and set(shown) <= set(VERBS)


def test_every_test_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", README)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_preset_named_exists() -> None:
    named = set(re.findall(r"--preset ([\w-]+)", README))
    assert named and all((ROOT / "presets" / f"{name}.toml").is_file() for name in named)


def test_exit_codes_are_the_programs() -> None:
    sentence = README[README.index("Exit codes:") :].split("\n\n")[0]
    told = {int(number) for number in re.findall(r"\b(\d+) [a-z]", sentence)}
    assert told == {int(code) for code in ExitCode if code <= 5 or code == 130}


def test_tables_are_those_of_the_code() -> None:
    """`python -m tests.readme` writes them anew."""
    assert written(README) == README
