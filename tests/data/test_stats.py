"""The shown plan is the plan that is trained; what is too long is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra.config.schema import BatchConfig
from orchestra.data.batches import Planner
from orchestra.data.stats import describe, fill, flat, main, padding, shared_neighbours
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.manifest import write_manifest
from tests.exactness.launching import WORKSPACE, write_job

BATCH = BatchConfig(seconds=40.0, max_micro_seconds=10.0, micro_batches=4)
DURATIONS = [0.5 + 0.01 * n for n in range(300)]
IDS = [f"u{n}" for n in range(300)]


def described(
    durations: list[float] = DURATIONS, batch: BatchConfig = BATCH, seed: int = 7
) -> dict[str, Any]:
    ids = [f"u{n}" for n in range(len(durations))]
    return describe(durations, ids, batch, seed)


def test_measures_of_a_small_plan() -> None:
    durations = [1.0, 2.0, 3.0, 4.0]
    assert padding([(0, 1), (2, 3)], durations) == pytest.approx(2 / 12)
    assert fill([(0, 1), (2, 3)], durations, 8.0) == pytest.approx((4 + 8) / 16)
    assert shared_neighbours([(0, 1, 2), (3,)], [(0, 1), (2, 3)]) == pytest.approx(1 / 3)
    assert shared_neighbours([(0, 1), (2, 3)], [(1, 0), (3, 2)]) == 1.0
    assert shared_neighbours([(0,), (1,)], [(1, 0)]) == 0.0


def test_the_plan_is_that_of_the_first_epoch() -> None:
    document = described()
    steps = Planner(DURATIONS, IDS, BATCH, seed=7).epoch(0)
    assert document["steps"] == len(steps)
    assert document["micro_batches"] == len(flat(steps))
    assert document["padding"] == pytest.approx(padding(flat(steps), DURATIONS), abs=1e-6)
    seconds = document["step_seconds"]
    assert seconds["min"] < seconds["mean"] <= seconds["max"] <= 40.0
    assert described() == document != described(seed=8)


def test_lengths_and_buckets_cover_the_split() -> None:
    document = described()
    assert document["utterances"] == 300
    assert document["seconds"] == pytest.approx(sum(DURATIONS))
    assert document["percentiles_s"]["0"] == 0.5
    assert document["percentiles_s"]["50"] == pytest.approx(2.0, abs=0.01)
    assert document["percentiles_s"]["100"] == document["longest"][0]["seconds"] == 3.49
    buckets = document["buckets"]
    assert len(buckets) == 10
    assert sum(row["utterances"] for row in buckets) == 300
    assert sum(row["micro_batches"] for row in buckets) == document["micro_batches"]
    assert [row["longest_s"] for row in buckets] == sorted(row["longest_s"] for row in buckets)


@pytest.mark.parametrize("policy", ["refuse", "isolate"])
def test_what_is_too_long_is_listed_whatever_the_policy(policy: str) -> None:
    batch = BatchConfig(**{**BATCH.model_dump(), "too_long": policy})
    document = described([*DURATIONS, 11.0, 12.0], batch)
    assert document["too_long"] == [
        {"id": "u301", "seconds": 12.0},
        {"id": "u300", "seconds": 11.0},
    ]
    assert document["batch"]["too_long"] == policy
    assert described()["too_long"] == []


def program(folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["--config", str(folder / "config.toml"), "--code", str(WORKSPACE)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_the_program_asks_the_task_for_its_utterances(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_job(tmp_path / "run")
    code, out, _ = program(tmp_path / "run", capfd)
    document = json.loads(out)
    assert code == ExitCode.OK
    assert (document["task"], document["split"], document["utterances"]) == ("probe", "train", 90)


def test_too_few_utterances_and_a_missing_split_are_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_job(tmp_path / "few", task={"train_utterances": 3})
    code, out, err = program(tmp_path / "few", capfd)
    assert (code, out) == (ExitCode.FAILED, "")
    assert err.startswith("data stats: the training split has 3 utterances")
    write_manifest(tmp_path / "m", "dev", [], "a test")
    data = {"manifests": str(tmp_path / "m"), "train": "train"}
    write_job(tmp_path / "none", kind="asr", task={"head": {"kind": "small"}}, data=data)
    code, out, err = program(tmp_path / "none", capfd)
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "no manifest of split 'train'" in err and "it has dev" in err
    assert "`orchestra run asr --dry-run`" in err and err.count("\n") == 1
