"""`orchestra tui` on a terminal of its own: how soon there are rows, and what it costs all day."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestra.tui.watcher import FIRST_PAGE
from orchestra.workspace import Workspace
from tests.benchmarks.live_runs import COUNT, READY, remark_of
from tests.benchmarks.screen import SIZE, Program, on_screen
from tests.benchmarks.table import Row
from tests.benchmarks.workspaces import ORCHESTRA
from tests.tui.demo import many

FEW, MANY = 1_000, 100_000
_REPEATS = 7
_WARM_UP_S = 10.0
_WATCHED_S = 30.0
_SETTLED_S = 2.0
_KEYS = 80
_ROWS = 20
_BETWEEN_KEYS_S = 0.137  # falls on all parts of a second
_MONITOR = (ORCHESTRA, "tui")
_SMALLEST = """
from textual.app import App
from textual.widgets import Static
class Smallest(App):
    pressed = 0
    def compose(self):
        yield Static("painted")
    def on_key(self):
        self.pressed += 1
        self.query_one(Static).update(f"key-{self.pressed}.")
Smallest().run()
"""


def measure() -> list[Row]:
    """With few and with many runs in the registry."""
    with tempfile.TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        environment = {"XDG_STATE_HOME": folder}
        few = many(Path(folder) / "few", FEW, now_s=time.time())
        lots = many(Path(folder) / "many", MANY, now_s=time.time())
        rows = [*_starting(few, lots, environment)]
        for workspace, count in ((few, FEW), (lots, MANY)):
            with _writer(workspace):
                rows += _living(workspace, count, environment)
        return rows


def _starting(few: Workspace, lots: Workspace, environment: Mapping[str, str]) -> list[Row]:
    times: dict[str, list[float]] = {"smallest": [], "few": [], "few keys": [], "many": []}
    for _ in range(_REPEATS):  # by turns: the machine's mood is the same for all
        with on_screen((sys.executable, "-c", _SMALLEST), few.root) as program:
            times["smallest"].append(program.wait_for("painted") - program.started_s)
        for name, workspace, count in (("few", few, FEW), ("many", lots, MANY)):
            with on_screen(_MONITOR, workspace.root, environment) as program:
                newest = f"asr-{count - 1:06d}"
                times[name].append(program.wait_for(newest) - program.started_s)
                if name == "few":
                    # The last run of the first page, or of all of them.
                    last = [f"asr-{number:06d}" for number in (count - FIRST_PAGE, 0)]
                    answered = program.wait_for(*last, keys="G")
                    times["few keys"].append(answered - program.started_s)
    took_ms = {name: statistics.median(each) * 1000 for name, each in times.items()}
    how = f"new process on a terminal of {SIZE[0]} x {SIZE[1]}, median of {_REPEATS}"

    def shown(name: str) -> str:
        ratio = took_ms[name] / took_ms["smallest"]
        return f"{took_ms[name]:.0f} ms ({ratio:.2f} x the smallest Textual program)"

    return [
        Row("smallest Textual program: first paint", f"{took_ms['smallest']:.0f} ms", "", how),
        Row(f"`orchestra tui`, {FEW:,} runs: first row", shown("few"), "300 ms", how),
        Row(f"... {MANY:,} runs", shown("many"), "300 ms", how),
        Row(
            "... until a key is answered",
            shown("few keys"),
            "",
            f"`G` (the last run), {FEW:,} runs",
        ),
    ]


def _living(workspace: Workspace, count: int, environment: Mapping[str, str]) -> list[Row]:
    what = f"`orchestra tui`, {count:,} runs, {COUNT} of them at work"
    with on_screen(_MONITOR, workspace.root, environment) as program:
        program.wait_for(remark_of(_id_of(count - 1)))
        program.read_for(_WARM_UP_S)
        before_s, started_s = program.cpu_s(), time.perf_counter()
        got = program.read_for(_WATCHED_S)
        took_s = time.perf_counter() - started_s
        busy = (program.cpu_s() - before_s) / took_s
        times_ms = _key_times_ms(program, _there_and_back(count))
    with on_screen((sys.executable, "-c", _SMALLEST), workspace.root) as program:
        program.wait_for("painted")
        program.read_for(_SETTLED_S)
        keys = [("j", f"key-{pressed}.") for pressed in range(1, _KEYS + 1)]
        least_ms = _p95(_key_times_ms(program, keys))
    ticking = f"{COUNT} rows and heartbeats change once a second"
    return [
        Row(
            f"{what}: CPU time",
            f"{busy:.1%} of a core",
            "5 %",
            f"{_WATCHED_S:g} s, all its processes; {ticking}; {got / took_s / 1000:.0f} kB/s drawn",
        ),
        Row(
            "... from key to repaint, p95",
            f"{_p95(times_ms):.0f} ms (median {statistics.median(times_ms):.0f} ms; "
            f"{_p95(times_ms) / least_ms:.1f} x the smallest Textual program)",
            "50 ms",
            f"{_KEYS} keys down and up; {ticking}",
        ),
    ]


def _there_and_back(count: int) -> Iterator[tuple[str, str]]:
    """Keys over rows that all change meanwhile, and what tells that the cursor is there."""
    place = 0
    for pressed in range(_KEYS):
        down = pressed % (2 * _ROWS) < _ROWS
        place += 1 if down else -1
        yield "j" if down else "k", remark_of(_id_of(count - 1 - place))


def _key_times_ms(program: Program, keys: Iterable[tuple[str, str]]) -> list[float]:
    times_ms = []
    for key, seen in keys:
        program.read_for(_BETWEEN_KEYS_S)
        pressed_s = time.perf_counter()
        program.send(key)
        times_ms.append((program.wait_for(seen) - pressed_s) * 1000)
    return times_ms


def _p95(times_ms: list[float]) -> float:
    return statistics.quantiles(times_ms, n=20)[-1]


def _id_of(number: int) -> str:
    """As tests.tui.demo.many names them."""
    return f"r{number:06d}"


@contextmanager
def _writer(workspace: Workspace) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.benchmarks.live_runs", str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != READY:
                raise RuntimeError("the runs do not come to work")
            yield
        finally:
            process.terminate()
