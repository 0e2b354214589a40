"""`orchestra diff` as a process."""

from __future__ import annotations

import pytest

from tests.chaos.sandbox import Sandbox
from tests.cli.conftest import Cli
from tests.schedule.comparing import Bench
from tests.schedule.conftest import sandbox

__all__ = ["sandbox"]


@pytest.fixture
def bench(sandbox: Sandbox) -> Bench:
    bench = Bench(sandbox)
    bench.commit("first", model="one\n")
    bench.evaluate(bench.add("base"), "test", wer=6.0)
    bench.commit("second", model="two\n")
    bench.evaluate(bench.add("tuned", seed=8), "test", wer=5.0)
    return bench


def test_the_page_tells_what_differs(bench: Bench) -> None:
    cli = Cli(bench.root)
    lines = [line.split() for line in cli.ok("diff", "base", "tuned").splitlines()]
    for expected in (
        "KEY BASE TUNED",
        "seed 7 8",
        "Code, from base to tuned",
        "commits that only tuned has: 1",
        "1 1 model.py",
        "test wer 6 5*",
    ):
        assert expected.split() in lines
    assert "diff --git" not in cli.ok("diff", "base", "tuned")
    assert "-one\n+two\n" in cli.ok("diff", "base", "tuned", "--code")


def test_json(bench: Bench) -> None:
    document = Cli(bench.root).json("diff", "base", "tuned")
    assert {"runs", "config", "code", "environment", "data", "scores", "finals", "problems"} == set(
        document
    )
    assert document["config"] == [{"key": "seed", "values": [7, 8]}]
    assert document["scores"][0]["best"] == [False, True]


def test_what_is_damaged_is_told_on_stderr(bench: Bench) -> None:
    (bench.sandbox.workspace.runs.run("tuned").job.config).write_text("= no toml")
    done = Cli(bench.root)("diff", "base", "tuned")
    assert done.returncode == 0
    assert "can't be read: tuned: " in done.stderr and "Traceback" not in done.stderr


def test_one_run_is_not_enough(bench: Bench) -> None:
    done = Cli(bench.root)("diff", "base", "base")
    assert done.returncode == 2
    assert "two different runs" in done.stderr
