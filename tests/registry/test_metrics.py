from __future__ import annotations

import math
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from orchestra.registry import metrics
from orchestra.registry.metrics import VERSION, MetricStore
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.folders import AttemptFolder, RunsFolder
from orchestra.wire.job import CODE
from orchestra.wire.records import Record, RecordWriter
from tests.exactness.launching import WORKSPACE, write_job
from tests.train.running import run_here


def train(step: int, loss: float) -> Record:
    return Record("train", step, 100.0 + step, {"loss": loss, "note": "x", "flag": True})


def start(step: int) -> Record:
    return Record("start", step, 0.0, {"step": step, "max_steps": 100})


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path / "metrics.db")


def test_before_the_first_point_there_is_no_file(store: MetricStore, tmp_path: Path) -> None:
    assert (store.keys(), store.series("train/loss"), store.last()) == ([], [], {})
    assert list(tmp_path.iterdir()) == []


def test_numbers_become_series_by_kind_and_split(store: MetricStore) -> None:
    validation = Record("validation", 10, 200.0, {"split": "dev-clean", "wer": 12.5})
    store.append(1, [start(0), train(5, 2.0), train(10, 1.0), validation])
    assert store.keys() == ["train/loss", "validation/dev-clean/wer"]
    assert [(point.step, point.value) for point in store.series("train/loss")] == [
        (5, 2.0),
        (10, 1.0),
    ]
    last = store.last()
    assert last["train/loss"].step == 10
    assert (last["validation/dev-clean/wer"].value, last["train/loss"].time_s) == (12.5, 110.0)


def test_a_restart_marks_what_is_computed_again(store: MetricStore) -> None:
    store.append(1, [start(0), *(train(step, 1.0) for step in (10, 20, 30))])
    store.append(2, [start(20), train(30, 2.0)])
    points = [(point.attempt, point.step, point.superseded) for point in store.series("train/loss")]
    assert points == [(1, 10, False), (1, 20, False), (1, 30, True), (2, 30, False)]
    assert (store.last()["train/loss"].attempt, store.last()["train/loss"].value) == (2, 2.0)


def test_the_newest_good_point_may_be_an_older_attempts(store: MetricStore) -> None:
    store.append(1, [start(0), *(train(step, 1.0) for step in (10, 20, 30))])
    store.append(2, [start(20)])
    assert store.last()["train/loss"].step == 20


def test_reading_an_attempts_records_again_changes_nothing(store: MetricStore) -> None:
    first = [start(0), train(10, 1.0), train(20, 1.5)]
    store.append(1, first)
    store.append(2, [start(10), train(20, 2.0)])
    before = store.series("train/loss")
    store.append(1, first)  # a supervisor that took over reads from the start
    assert store.series("train/loss") == before
    store.append(1, [train(30, 9.0)])  # late lines of the first attempt
    assert store.series("train/loss")[-1].superseded


def test_nan_and_infinity_stay(store: MetricStore) -> None:
    store.append(1, [train(1, math.nan), train(2, math.inf)])
    values = [point.value for point in store.series("train/loss")]
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_a_long_series_is_thinned_to_even_steps_with_its_end(store: MetricStore) -> None:
    store.append(1, [train(step, step) for step in range(1, 1001)])
    thin = [point.step for point in store.series("train/loss", max_points=10)]
    assert (thin[0], thin[-1]) == (1, 1000)
    assert len(thin) <= 12
    assert {later - earlier for earlier, later in pairwise(thin[:-1])} == {100}
    assert len(store.series("train/loss", max_points=5000)) == 1000


def test_a_reader_sees_what_another_process_committed(store: MetricStore, tmp_path: Path) -> None:
    reader = MetricStore(tmp_path / "metrics.db")
    assert reader.keys() == []
    store.append(1, [train(1, 1.0)])
    assert len(reader.series("train/loss")) == 1
    store.append(1, [train(2, 1.0)])
    assert len(reader.series("train/loss")) == 2


def test_no_shared_memory_on_a_network(
    store: MetricStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "network_type", lambda folder: "NFS")
    store.append(1, [train(1, 1.0)])
    store.append(1, [train(2, 1.0)])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.db"]
    assert len(store.series("train/loss")) == 2


def test_bad_files_are_sentences(store: MetricStore, tmp_path: Path) -> None:
    store.append(1, [train(1, 1.0)])
    store.close()
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UsageError, match="upgrade"):
        store.keys()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(OrchestraError, match=r"is damaged.*records\.jsonl"):
        store.keys()
    with pytest.raises(OrchestraError, match="cannot use"):
        MetricStore(tmp_path / "gone" / "metrics.db").append(1, [train(1, 1.0)])


def test_a_real_resume_keeps_its_attempts_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps with saves at 4, 8 and 12; the last save is lost, the second attempt repeats it."""
    monkeypatch.setenv(CODE, str(WORKSPACE))
    job = write_job(
        tmp_path / "run", batch={"micro_batches": 3}, train={"log_every": 2, "eval_every": 6}
    )
    first = run_here(job, 1)
    for checkpoint in job.run.checkpoints.iterdir():
        if checkpoint.name != "step-00000008":
            shutil.rmtree(checkpoint)
    second = run_here(job, 2)
    store = MetricStore(job.run.metrics)
    store.append(1, first)
    store.append(2, second)
    points = [(point.attempt, point.step, point.superseded) for point in store.series("train/loss")]
    assert points == [
        *((1, step, False) for step in (1, 2, 4, 6, 8)),
        (2, 9, False),  # an attempt's first step has a record of its own
        *((attempt, step, attempt == 1) for step in (10, 12) for attempt in (1, 2)),
    ]
    assert store.last()["train/loss"].attempt == 2
    assert _current(store, "train/loss") == _points_of(second, 8) | _points_of(first, 0, 8)
    # The same in TensorBoard: one folder per attempt, each step once in it.
    assert _plotted(job.attempt(1)) == [1, 2, 4, 6, 8, 10, 12]
    assert _plotted(job.attempt(2)) == [9, 10, 12]


def _current(store: MetricStore, key: str) -> dict[int, float]:
    found = [(p.step, p.value) for p in store.series(key) if not p.superseded]
    assert len(found) == len(dict(found))  # no step twice
    return dict(found)


def _points_of(records: list[Record], after: int, until: int = 12) -> dict[int, float]:
    return {
        record.step: record.values["loss"]
        for record in records
        if record.kind == "train" and after < record.step <= until
    }


def _plotted(attempt: AttemptFolder) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(attempt.tensorboard)).Reload()
    return [point.step for point in events.Scalars("train/loss")]


def test_remaking_gives_the_same_store(store: MetricStore, tmp_path: Path) -> None:
    job = RunsFolder(tmp_path / "runs").run("r1").job
    for number, records in ((1, [start(0), train(10, 1.0), train(20, 2.0)]), (2, [start(10)])):
        folder = job.attempt(number)
        folder.path.mkdir(parents=True)
        writer = RecordWriter(folder.records)
        for record in records:
            writer.write(record)
        writer.close()
        store.append(number, records)
    before = store.series("train/loss")
    assert [point.superseded for point in before] == [False, True]
    store.append(1, [train(99, 9.0)])  # in no record
    store.remake(job)
    assert store.series("train/loss") == before
    assert (tmp_path / "metrics.db.damaged").is_file()
