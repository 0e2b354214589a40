"""What one heartbeat costs the training thread."""

from __future__ import annotations

import shutil
import time

from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from tests.benchmarks.table import Row


def measure() -> list[Row]:
    folder = pages_folder("benchmark")
    heartbeat = Heartbeat(folder, 0)
    beats = 200_000
    started = time.perf_counter()
    for step in range(beats):
        heartbeat.beat(step, Phase.FORWARD)
    cost_us = (time.perf_counter() - started) / beats * 1e6
    shutil.rmtree(folder)
    return [Row("one heartbeat", f"{cost_us:.2f} us", "<= 2 us", f"mean of {beats:,}")]
