"""A day of `orchestra tui`, as fast as the machine can: how much more memory is used at its end?

The clock of the measured process (`python -m tests.benchmarks.tui_day WORKSPACE HOURS`) is moved
on by a second as soon as the screen shows what was written in the last one. The screen is Textual's
headless one; threads, timers, registry, heartbeats and metric stores are the real ones.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.procfs import memory
from tests.benchmarks.table import Row

RUNS = 1_000
HOURS = 24.0
WARM_UP_S = 1800
_READ_EVERY_S = 600
_KEY_EVERY_S = 60
_TAB_EVERY_S = 200  # each has been seen when the warm-up ends
_TABS = 8
_SHOWN_S = 0.002  # between two looks at the screen
_LONGEST_S = 60.0  # of real time, for one second


def measure() -> list[Row]:
    """As many hours as ORCHESTRA_BENCHMARK_HOURS says, a day by default."""
    from tests.tui.demo import many

    hours = float(os.environ.get("ORCHESTRA_BENCHMARK_HOURS", HOURS))
    with tempfile.TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        workspace = many(Path(folder) / "workspace", RUNS, now_s=time.time())
        command = [sys.executable, "-m", "tests.benchmarks.tui_day", str(workspace.root)]
        done = subprocess.run(
            [*command, str(hours)],
            env={**os.environ, "XDG_STATE_HOME": folder},
            stdout=subprocess.PIPE,
            check=True,
        )
    readings: list[tuple[float, float]] = json.loads(done.stdout)
    growth = _slope(readings)
    what = f"{hours:g} simulated hours, {RUNS:,} runs of which 50 change each second, keys and tabs"
    return [
        Row(
            "`orchestra tui`: memory growth",
            f"{growth:.2f} MB/h",
            "1 MB/h",
            f"{what}; line through {len(readings)} readings after {WARM_UP_S / 60:g} minutes",
        ),
        Row("... resident at the end", f"{readings[-1][1]:.0f} MB", "", f"of {what}"),
    ]


def _slope(readings: list[tuple[float, float]]) -> float:
    """Of the least squares line."""
    middle = sum(x for x, _ in readings) / len(readings)
    across = sum((x - middle) ** 2 for x, _ in readings)
    return sum((x - middle) * y for x, y in readings) / across


class _Clock:
    """Takes the place of the module's functions."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._monotonic, self._time = time.monotonic, time.time

    def monotonic(self) -> float:
        return self._monotonic() + self.ahead_s

    def time(self) -> float:
        return self._time() + self.ahead_s


async def _live_through(root: Path, duration_s: int, clock: _Clock) -> list[tuple[float, float]]:
    """Hours and MB."""
    from orchestra.tui.app import Monitor
    from orchestra.tui.runs_table import RunsTable
    from orchestra.workspace import find_workspace

    command = [sys.executable, "-m", "tests.benchmarks.live_runs", str(root), "--asked"]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None and writer.stdout is not None
    writer.stdout.readline()  # the runs are at work
    app = Monitor(find_workspace(root))
    readings = []
    async with app.run_test(size=(120, 36)) as pilot:
        for second in range(1, duration_s + 1):
            print(file=writer.stdin, flush=True)
            step = int(writer.stdout.readline())
            clock.ahead_s += 1.0
            given_up_s = clock.monotonic() + _LONGEST_S
            while True:
                views = app.screen.query_one(RunsTable).views
                if views and views[0].step == step:
                    break
                if clock.monotonic() > given_up_s:
                    raise TimeoutError(f"step {step} is not shown")
                await asyncio.sleep(_SHOWN_S)
            if second % _KEY_EVERY_S == 0:
                await pilot.press("j" if second // _KEY_EVERY_S % 20 < 10 else "k")
            if second % _TAB_EVERY_S == 0:
                await pilot.press(str(second // _TAB_EVERY_S % _TABS + 1))
                await pilot.press("tab")  # back to the table
            if second % _READ_EVERY_S == 0 and second >= WARM_UP_S:
                gc.collect()
                readings.append((second / 3600, memory(os.getpid()).resident_mb))
    writer.stdin.close()
    writer.wait()
    return readings


def main() -> None:
    root, hours = sys.argv[1:]
    clock = _Clock()
    time.monotonic, time.time = clock.monotonic, clock.time  # before Textual takes them
    print(json.dumps(asyncio.run(_live_through(Path(root), int(float(hours) * 3600), clock))))


if __name__ == "__main__":
    main()
