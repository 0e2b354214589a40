from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.registry.curves import MOST_BUCKETS, Curve, CurveReader
from orchestra.registry.metrics import VERSION, Bucket, MetricStore, Point
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.records import Record

KEY = "train/loss"
FOREVER_S = 1e9


def train(step: int, loss: float) -> Record:
    return Record("train", step, 100.0 + step, {"loss": loss})


def start(step: int) -> Record:
    return Record("start", step, 0.0, {"step": step})


def read_all(reader: CurveReader) -> Curve:
    return reader.read(FOREVER_S)


def summed(points: Sequence[Point], width: int) -> list[Bucket]:
    """What buckets are, said in Python."""
    groups: dict[tuple[int, bool, int], list[Point]] = {}
    for point in points:
        group = (point.step // width, not point.superseded, point.attempt)
        groups.setdefault(group, []).append(point)
    found = []
    for (_, current, attempt), group in sorted(groups.items()):
        finite = [point.value for point in group if math.isfinite(point.value)]
        found.append(
            Bucket(
                group[0].step,
                group[-1].step,
                sum(point.time_s for point in group) / len(group),
                min(finite, default=math.nan),
                max(finite, default=math.nan),
                math.fsum(finite) / len(finite) if finite else math.nan,
                len(group),
                len(group) - len(finite),
                attempt,
                not current,
            )
        )
    return found


def same(found: Iterable[Bucket], wanted: Iterable[Bucket]) -> bool:
    return all(
        one == pytest.approx(other, rel=1e-6, abs=1e-6, nan_ok=True)
        for one, other in zip(found, wanted, strict=True)
    )


VALUES = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, -math.inf])
STEPS = st.lists(st.tuples(st.integers(0, 5000), VALUES), max_size=60, unique_by=lambda one: one[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), STEPS), max_size=4), st.data())
def test_buckets_are_what_the_points_say_however_often_one_looked(
    attempts: list[tuple[int, list[tuple[int, float]]]], data: st.DataObject
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.db"
        store, other = MetricStore(path), MetricStore(path)
        reader = CurveReader(other, KEY)
        for number, (first, points) in enumerate(attempts, 1):
            store.append(number, [start(first)])
            records = [train(step, value) for step, value in sorted(points) if step > first]
            cut = data.draw(st.integers(0, len(records)))
            store.append(number, records[:cut])
            # A look in between; zero: time enough for one bucket only.
            reader.read(data.draw(st.sampled_from([0.0, FOREVER_S])))
            store.append(number, records[cut:])
        curve = read_all(reader)
        raw = store.series(KEY)
        steps = [point.step for point in raw] or [0]
        width = 1
        while (max(steps) - min(steps)) // width >= MOST_BUCKETS:
            width *= 2
        assert curve.exact
        assert same(curve.buckets, summed(raw, width))
        store.close()
        other.close()


@pytest.fixture
def store(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path / "metrics.db")


def test_before_the_first_point_the_curve_is_empty(store: MetricStore, tmp_path: Path) -> None:
    reader = CurveReader(MetricStore(tmp_path / "metrics.db"), KEY)
    assert reader.read() == Curve(KEY)
    assert list(tmp_path.iterdir()) == []
    store.append(1, [train(1, 2.0)])
    assert [bucket.mean for bucket in reader.read().buckets] == [2.0]


def test_attempts_are_apart_and_the_start_is_told(store: MetricStore) -> None:
    store.append(1, [start(0), *(train(step, 1.0) for step in range(1, 31))])
    store.append(2, [start(20), *(train(step, 2.0) for step in range(21, 26))])
    curve = CurveReader(store, KEY).read(FOREVER_S)
    assert curve.starts == ((1, 0), (2, 20))
    lost = [bucket.first_step for bucket in curve.buckets if bucket.superseded]
    current = [(b.first_step, b.attempt) for b in curve.buckets if not b.superseded]
    assert lost == list(range(21, 31))
    assert current == [(step, 1) for step in range(1, 21)] + [(step, 2) for step in range(21, 26)]
    assert curve.newest is not None and (curve.newest.step, curve.newest.value) == (25, 2.0)


def test_nothing_is_read_while_nothing_was_written(
    store: MetricStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(1, [train(step, 1.0) for step in range(100)])
    reader = CurveReader(MetricStore(tmp_path / "metrics.db"), KEY)
    first = read_all(reader)
    asked: list[tuple[int, int]] = []
    bucket = MetricStore.bucket

    def counted(self: MetricStore, key: str, first: int, end: int) -> list[Bucket]:
        asked.append((first, end))
        return bucket(self, key, first, end)

    monkeypatch.setattr(MetricStore, "bucket", counted)
    assert reader.read() is first
    assert asked == []
    store.append(1, [train(100, 1.0)])
    assert sum(one.points for one in read_all(reader).buckets) == 101
    assert asked == [(99, 100), (100, 101)], "old points were read again"


def test_the_first_look_is_thin_and_the_next_ones_exact(store: MetricStore) -> None:
    store.append(1, [train(step, float(step % 7)) for step in range(20_000)])
    reader = CurveReader(store, KEY)
    first = reader.read(0.0)
    assert not first.exact
    assert 300 < len(first.buckets) < 500 and first.buckets[-1].last_step == 19_999
    assert all(one.last_step < two.first_step for one, two in pairwise(first.buckets))
    looks = 1
    while not (curve := reader.read(0.002)).exact:
        looks += 1
    assert looks > 1
    assert sum(bucket.points for bucket in curve.buckets) == 20_000
    assert MOST_BUCKETS / 2 < len(curve.buckets) <= MOST_BUCKETS
    assert {bucket.high for bucket in curve.buckets} == {6.0}, "no spike is lost"


def test_a_part_has_buckets_of_its_own(store: MetricStore) -> None:
    store.append(1, [train(step, 1.0) for step in range(20_000)])
    curve = read_all(CurveReader(store, KEY, (5000, 5099)))
    assert [bucket.first_step for bucket in curve.buckets] == list(range(5000, 5100))
    assert read_all(CurveReader(store, KEY, (30_000, 40_000))).buckets == ()


def test_another_file_in_its_place_is_noticed(store: MetricStore, tmp_path: Path) -> None:
    store.append(1, [train(step, 1.0) for step in range(50)])
    reader = CurveReader(MetricStore(tmp_path / "metrics.db"), KEY)
    read_all(reader)
    other = MetricStore(tmp_path / "other.db")
    other.append(1, [train(step, 2.0) for step in range(50)])
    other.close()
    for suffix in ("", "-wal", "-shm"):  # as `MetricStore.remake` does
        (tmp_path / f"metrics.db{suffix}").replace(tmp_path / f"metrics.db.damaged{suffix}")
    (tmp_path / "other.db").replace(tmp_path / "metrics.db")
    assert {bucket.mean for bucket in read_all(reader).buckets} == {2.0}


def test_bad_files_are_sentences(store: MetricStore, tmp_path: Path) -> None:
    store.append(1, [train(1, 1.0)])
    store.close()
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UsageError, match="upgrade"):
        CurveReader(MetricStore(path), KEY).read()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(OrchestraError, match="is damaged"):
        CurveReader(MetricStore(path), KEY).read()
