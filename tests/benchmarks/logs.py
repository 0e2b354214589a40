"""A log of 1 GB: how soon its end is there, how long a string takes, and whether others wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.schedule.log_search import Search
from orchestra.schedule.log_view import LogView
from orchestra.wire.terminal import coloured
from tests.benchmarks.table import Row

SIZE_BYTES = 1 << 30
_LINES = 200
_SLICE_S = 0.06
_NEEDLES = {"exact": "The one line", "any case": "the one line"}


def measure() -> list[Row]:
    with _big_log() as path:
        paths = {"rank0": path}
        opened_s = min(_timed(partial(_open, paths)) for _ in range(5))
        rows = [
            Row(
                "a log of 1 GB: its end on the screen",
                f"{opened_s * 1000:.1f} ms",
                "<= 100 ms",
                f"the last {_LINES} lines read and parsed; best of 5, in the page cache",
            )
        ]
        for how, needle in _NEEDLES.items():
            with _stalls() as stalls_s:
                took_s = _timed(partial(_search, paths, needle))
            rows.append(
                Row(
                    f"... a string at its far end found ({how})",
                    f"{took_s:.2f} s",
                    "<= 3 s",
                    f"in slices of {_SLICE_S * 1000:.0f} ms",
                )
            )
            rows.append(
                Row(
                    "... another thread that wakes each millisecond waited at most",
                    f"{max(stalls_s) * 1000:.1f} ms",
                    "",
                    "while that search ran",
                )
            )
        return rows


def _open(paths: dict[str, Path]) -> None:
    window = LogView(paths).last(_LINES)
    assert len([coloured(line.text) for line in window.lines]) == _LINES


def _search(paths: dict[str, Path], needle: str) -> None:
    search = Search(paths, needle, {"rank0": 0})
    while not search.advance(_SLICE_S):
        pass
    assert search.hit is not None


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _big_log() -> Iterator[Path]:
    line = "2026-01-01 00:00:{:02d},000 INFO step {} loss 3.1415 lr 1e-4 speed 12.3 x real time\n"
    block = "".join(line.format(at % 60, at) for at in range(12_000)).encode()
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        path = Path(folder) / "rank0.log"
        with path.open("wb") as file:
            while file.tell() < SIZE_BYTES - len(block):
                file.write(block)
            file.write(b"The one line, said once\n")
            file.write(block)
        yield path


@contextmanager
def _stalls() -> Iterator[list[float]]:
    """How much later than asked for a thread woke, time and again."""
    late_s = [0.0]
    ended = threading.Event()

    def beat() -> None:
        while not ended.is_set():
            before = time.perf_counter()
            time.sleep(0.001)
            late_s.append(time.perf_counter() - before - 0.001)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield late_s
    finally:
        ended.set()
        thread.join()
