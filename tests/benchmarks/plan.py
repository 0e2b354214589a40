"""How long the queue's plan takes: 10,000 queued runs, 64 GPUs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from orchestra.gpu.probe import Link
from orchestra.registry.rows import JobKey
from orchestra.schedule.plan import BACKFILL_S, Gpu, Snapshot, Waiting, plan
from tests.benchmarks.table import Row

JOBS = 10_000
GPUS = 64
REPEATS = 15


def measure() -> list[Row]:
    cases: dict[str, Callable[[int], str]] = {
        "every second GPU free": lambda index: "" if index % 2 else "leased by run x of user y",
        "no GPU free": lambda index: "leased by run x of user y",
        "every GPU free": lambda index: "",
    }
    return [
        Row(
            f"plan() of {JOBS:,} queued runs and {GPUS} GPUs, {name}",
            f"{_median_ms(_snapshot(taken)):.0f} ms",
            "<= 50 ms",
            f"median of {REPEATS}; 1 to 8 GPUs each, 3 priorities, NVLink in groups of 8",
        )
        for name, taken in cases.items()
    ]


def _snapshot(taken: Callable[[int], str]) -> Snapshot:
    gpus = [Gpu(f"GPU-{index:02}", index, taken(index)) for index in range(GPUS)]
    uuids = tuple(gpu.uuid for gpu in gpus)
    waiting = [
        Waiting(
            JobKey(f"r{number}"),
            queued_at=float(number % 977),
            gpus=1 + number % 8,
            priority=number % 3,
            pool=uuids if number % 5 else uuids[: 8 * (1 + number % 7)],
            named=number % 5 == 0,
        )
        for number in range(JOBS)
    ]
    links = [
        Link(first, second, "nvlink" if one // 8 == other // 8 else "sys")
        for one, first in enumerate(uuids)
        for other, second in enumerate(uuids)
        if one < other
    ]
    return Snapshot(BACKFILL_S * 1.2, waiting, gpus, links)


def _median_ms(snapshot: Snapshot) -> float:
    took_ms = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        plan(snapshot)
        took_ms.append((time.perf_counter() - started) * 1000)
    return statistics.median(took_ms)
