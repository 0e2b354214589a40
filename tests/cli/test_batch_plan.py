"""`data stats`: the plan as people read it, and through the real command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestra.cli.batch_plan import print_batch_plan
from orchestra.config.schema import BatchConfig
from orchestra.data.stats import describe
from tests.cli.conftest import Cli


def document(*durations: float, too_long: str = "refuse") -> dict[str, Any]:
    batch = BatchConfig.model_validate(
        {"seconds": 20.0, "max_micro_seconds": 10.0, "micro_batches": 2, "too_long": too_long}
    )
    ids = [f"utt-{number}" for number in range(len(durations))]
    head = {"task": "asr", "split": "a+b", "seed": 1}
    return {**head, **describe(durations, ids, batch, 1)}


def test_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    print_batch_plan(document(*[2.5] * 16))
    text = capsys.readouterr().out
    assert "a+b (asr)" in text
    assert "16, 0.01 h" in text
    assert "2 steps, 4 micro-batches" in text
    assert "20.0 s on average" in text
    assert "padding     0.0 %" in text
    assert "longer than" not in text
    assert "seed        1\n" in text
    assert "fill        100.0 % of the 10 s of a micro-batch, padding included\n" in text


def test_a_fill_above_all_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    plan = document(*[2.5] * 16, 30.0, 30.0, too_long="isolate")
    print_batch_plan({**plan, "fill": 1.05})
    assert "up to batch.max_micro_seconds; what is longer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "fate"), [("refuse", "`run` will refuse"), ("isolate", "micro-batch of its own")]
)
def test_what_is_too_long_is_named(
    capsys: pytest.CaptureFixture[str], policy: str, fate: str
) -> None:
    print_batch_plan(document(*[2.5] * 16, 12.0, *[11.0] * 24, too_long=policy))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("25 longer than batch.max_micro_seconds = 10")
    assert fate in last
    assert "utt-16 (12.0 s), utt-17 (11.0 s)" in last and "and 5 more" in last


@pytest.mark.slow
def test_the_command_plans_what_run_would(cli: Cli) -> None:
    options = ("example", "--cpu", "--nproc", "3", "--set", "batch.seconds=20", "--seed", "4")
    plan = json.loads(cli.ok("data", "stats", *options, "--json"))
    assert plan["batch"]["micro_batches"] == 3
    assert plan["seed"] == 4
    assert plan["utterances"] == 400
    assert not (cli.root / "runs").exists()
    assert cli("data", "stats", "exmple").returncode == 3
