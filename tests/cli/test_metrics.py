"""`orchestra metrics`: newest values, points as table, JSON and CSV, states without any."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from orchestra.registry.metrics import VERSION, MetricStore
from orchestra.registry.rows import NewRun
from orchestra.registry.store import open_registry
from orchestra.wire.folders import RunFolder, RunsFolder
from orchestra.wire.records import Record
from tests.cli.conftest import Cli


@pytest.fixture
def run(cli: Cli) -> RunFolder:
    runs = RunsFolder(cli.root / "runs")
    with open_registry(runs) as registry:
        registry.create_run(NewRun("r1", "r1", "asr", "none", 0.0, 100, config_sha256="0"))
    folder = runs.run("r1")
    folder.path.mkdir()
    return folder


@pytest.fixture
def store(run: RunFolder) -> MetricStore:
    """Two attempts; the second repeats step 20, and its last loss is NaN."""
    made = MetricStore(run.metrics)
    made.append(1, [Record("start", 0, 0.0, {"step": 0}), train(10, 3.0), train(20, 2.0)])
    made.append(2, [Record("start", 10, 0.0, {"step": 10}), train(20, 1.5), train(30, math.nan)])
    made.append(2, [Record("validation", 30, 130.0, {"split": "dev", "wer": 12.5})])
    made.close()
    return made


def train(step: int, loss: float) -> Record:
    return Record("train", step, 100.0 + step, {"loss": loss, "lr": 0.1})


def test_the_newest_of_each(cli: Cli, store: MetricStore) -> None:
    header, *rows = cli.ok("metrics", "r1").splitlines()
    assert header.split() == ["METRIC", "VALUE", "STEP", "ATTEMPT", "RECORDED"]
    assert [row.split()[:4] for row in rows] == [
        ["train/loss", "nan", "30", "2"],
        ["train/lr", "0.1", "30", "2"],
        ["validation/dev/wer", "12.5", "30", "2"],
    ]
    document = cli.json("metrics", "r1")
    assert document["run"] == "r1"
    assert document["metrics"][0] == {
        "key": "train/loss", "step": 30, "value": None, "time": 130.0, "attempt": 2,
        "superseded": False,
    }  # fmt: skip


def test_points_tell_attempts_and_what_was_superseded(cli: Cli, store: MetricStore) -> None:
    found = cli.json("metrics", "r1", "train/loss")["series"]
    assert [series["key"] for series in found] == ["train/loss"]
    assert [
        (point["step"], point["value"], point["attempt"], point["superseded"])
        for point in found[0]["points"]
    ] == [(10, 3.0, 1, False), (20, 2.0, 1, True), (20, 1.5, 2, False), (30, None, 2, False)]
    rows = cli.ok("metrics", "r1", "train/loss").splitlines()
    assert rows[2].endswith("superseded") and not rows[3].endswith("superseded")


def test_a_metric_by_part_or_pattern(cli: Cli, store: MetricStore) -> None:
    def keys(*words: str) -> list[str]:
        return [series["key"] for series in cli.json("metrics", "r1", *words)["series"]]

    assert keys("WER") == ["validation/dev/wer"]
    assert keys("train/*") == ["train/loss", "train/lr"]
    assert keys("wer", "l") == ["validation/dev/wer", "train/loss", "train/lr"]
    done = cli("metrics", "r1", "nothing")
    assert done.returncode == 3
    assert "no metric 'nothing': there are train/loss, train/lr" in done.stderr


def test_csv_has_every_point(cli: Cli, store: MetricStore) -> None:
    rows = list(csv.reader(io.StringIO(cli.ok("metrics", "r1", "--csv"))))
    assert rows[0] == ["key", "step", "value", "time", "attempt", "superseded"]
    assert rows[2] == ["train/loss", "20", "2.0", "120.0", "1", "1"]
    assert rows[4][2] == "nan"
    assert {row[0] for row in rows[1:]} == {"train/loss", "train/lr", "validation/dev/wer"}


def test_points_thins(cli: Cli, run: RunFolder) -> None:
    store = MetricStore(run.metrics)
    store.append(1, [train(step, 1.0) for step in range(1, 501)])
    store.close()
    assert len(cli.json("metrics", "r1", "loss")["series"][0]["points"]) == 500
    points = cli.json("metrics", "r1", "loss", "--points", "10")["series"][0]["points"]
    assert (points[0]["step"], points[-1]["step"]) == (1, 500) and len(points) <= 12
    done = cli("metrics", "r1", "loss")
    assert len(done.stdout.splitlines()) < 25 and "--points N shows more" in done.stderr


def test_no_metrics_yet(cli: Cli, run: RunFolder) -> None:
    done = cli("metrics", "r1")
    assert (done.returncode, done.stdout) == (0, "") and "no metrics yet" in done.stderr
    assert json.loads(cli.ok("metrics", "r1", "--json")) == {"run": "r1", "metrics": []}
    done = cli("metrics", "r1", "loss")
    assert done.returncode == 3 and "has no metrics yet" in done.stderr
    assert not run.metrics.exists(), "reading makes nothing"


def test_what_is_wrong_is_one_sentence(cli: Cli, store: MetricStore, run: RunFolder) -> None:
    import sqlite3
    from contextlib import closing

    assert cli("metrics", "r1", "--json", "--csv").returncode == 2
    assert cli("metrics", "other").returncode == 3
    with closing(sqlite3.connect(run.metrics)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    done = cli("metrics", "r1")
    assert done.returncode == 2 and "upgrade orchestra" in done.stderr
    run.metrics.write_bytes(b"garbage" * 1000)
    done = cli("metrics", "r1", "loss")
    assert done.returncode == 1 and "is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
