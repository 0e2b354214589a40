"""A run with a million metric points: how soon its curve is there, and what a picture costs."""

from __future__ import annotations

import math
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from orchestra.registry.curves import CurveReader
from orchestra.registry.metrics import MetricStore
from orchestra.tui.canvas import Glyphs
from orchestra.tui.curve_source import CurveSource, Look, Question, Wanted, named
from orchestra.tui.lines import Line, View, XAxis
from orchestra.tui.plot import draw
from orchestra.wire.records import Record
from tests.benchmarks.table import Row

POINTS = 1_000_000
SERIES = 20
KEY = "train/loss"
_WIDTH, _HEIGHT = 120, 36
_PICTURES = 20


def measure() -> list[Row]:
    """One series of all the points, then as many points in twenty series."""
    with tempfile.TemporaryDirectory() as folder:
        one, twenty = Path(folder) / "one.db", Path(folder) / "twenty.db"
        _fill(one, 1)
        _fill(twenty, SERIES)
        return [*_opening(one, twenty), *_live(one), *_drawing(one)]


def _opening(one: Path, twenty: Path) -> list[Row]:
    raw_ms = _median_ms(lambda: _read_raw(one), repeats=1)
    first_ms = _median_ms(lambda: _look(one, whole=False))
    exact_ms = _median_ms(lambda: _look(one, whole=True))
    usual_ms = _median_ms(lambda: _look(twenty, whole=False))
    usual_exact_ms = _median_ms(lambda: _look(twenty, whole=True))
    how = "store opened, curve read, a new connection each time"
    return [
        Row(
            f"{POINTS:,} points in one series: first curve",
            f"{first_ms:.0f} ms ({raw_ms / first_ms:.0f} x faster than all points)",
            "100 ms",
            how,
        ),
        Row(
            "... exact smallest and largest of each of its 1,000 buckets",
            f"{exact_ms:.0f} ms ({raw_ms / exact_ms:.0f} x faster than all points)",
            "",
            "in slices, beside the screen",
        ),
        Row(f"{POINTS:,} points in {SERIES} series: first", f"{usual_ms:.0f} ms", "100 ms", how),
        Row("... exact", f"{usual_exact_ms:.0f} ms", "", how),
    ]


def _live(path: Path) -> list[Row]:
    with closing(MetricStore(path)) as store, closing(MetricStore(path)) as writer:
        reader = CurveReader(store, KEY)
        while not reader.read().exact:
            pass
        idle_us = 1000 * _median_ms(reader.read, repeats=100)
        step = POINTS

        def grow() -> float:
            nonlocal step
            step += 1
            writer.append(1, [Record("train", step, 1e9 + step, {"loss": 1.0})])
            started = time.perf_counter()
            reader.read()
            return (time.perf_counter() - started) * 1000

        new_ms = statistics.median(grow() for _ in range(50))
    return [
        Row("... a look when nothing is new", f"{idle_us:.0f} us", "", "PRAGMA data_version"),
        Row("... a look after a new point", f"{new_ms:.1f} ms", "", "one bucket read again"),
    ]


def _drawing(path: Path) -> list[Row]:
    line = named(_look(path, whole=True).lines["run", KEY], "run", 0)
    rows = []
    for lines, view, what in (
        ([line], View(), "one run"),
        ([line], View(smoothing=0.9, log_y=True), "one run, log y, smoothed"),
        (_eight(line), View(), "eight runs"),
    ):
        started = time.process_time()
        for _ in range(_PICTURES):
            draw(KEY, lines, view, _WIDTH, _HEIGHT, Glyphs.BRAILLE)
        took_ms = (time.process_time() - started) / _PICTURES * 1000
        rows.append(
            Row(
                f"drawing a curve: {what}",
                f"{took_ms:.1f} ms of a core",
                "",
                f"{_WIDTH} x {_HEIGHT}",
            )
        )
    return rows


def _eight(line: Line) -> list[Line]:
    return [named(line, f"run{number}", number) for number in range(8)]


def _look(path: Path, *, whole: bool) -> Look:
    source = CurveSource()
    question = Question((Wanted("run", path, None),), (KEY,), XAxis.STEP, None)
    look = source.look(question)
    while whole and not look.exact:
        look = source.look(question)
    source.close()
    return look


def _read_raw(path: Path) -> int:
    with closing(MetricStore(path)) as store:
        return len(store.series(KEY))


def _fill(path: Path, count: int) -> None:
    """As the supervisor would, but in one transaction of plain inserts: it takes seconds."""
    with closing(MetricStore(path)) as store:
        store.append(1, [Record("start", 0, 1e9, {"step": 0})])
    rng = random.Random(0)
    steps = POINTS // count
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(count):
            key = KEY if number == 0 else f"train/metric{number}"
            connection.execute("INSERT INTO series VALUES (?, ?)", (number + 1, key))
            connection.executemany(
                "INSERT INTO points VALUES (?, ?, 1, ?, ?, 0)",
                (
                    (number + 1, step, 1e9 + step, math.exp(-4 * step / steps) + rng.random() / 5)
                    for step in range(1, steps + 1)
                ),
            )


def _median_ms(work: Callable[[], object], repeats: int = 5) -> float:
    times_ms = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(times_ms)
