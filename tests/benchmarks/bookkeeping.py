"""What a step costs beside its arithmetic: heartbeats, statistics, records, log, TensorBoard.

The loop below does all of it as the trainer does, and nothing else.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from orchestra.train.communication import NoExchange
from orchestra.train.distributed import Ranks
from orchestra.train.recorder import Recorder
from orchestra.train.session import Session
from orchestra.train.statistics import Left, Meter
from orchestra.train.step import Taken, Totals
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Heartbeat, Phase, pages_folder
from tests.benchmarks.table import Row

STEPS = 4000
LOG_EVERY = 20
MICRO_BATCHES = 2
STEP_US = 10_000
_CPU = torch.device("cpu")


def measure() -> list[Row]:
    """Each part by itself, and all of them in one loop."""
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        loop = Loop(Path(folder))
        parts = {
            "heartbeats": loop.beats,
            "stop flag": loop.session.stop_requested,
            "statistics": loop.measure_step,
        }
        costs_us = {name: _cost_us(part, STEPS) for name, part in parts.items()}
        costs_us["a record / 20"] = _cost_us(loop.record, STEPS // LOG_EVERY) / LOG_EVERY
        started = time.perf_counter()
        for _ in range(STEPS):
            loop.step()
        loop.close()  # what TensorBoard's thread has left over counts too
        all_us = (time.perf_counter() - started) / STEPS * 1e6
    each = ", ".join(f"{name} {cost_us:.1f}" for name, cost_us in costs_us.items())
    return [
        Row(
            "bookkeeping of a 10 ms step",
            f"{all_us / STEP_US:.2%} ({all_us:.0f} us; {each})",
            "<= 1 %",
            f"mean of {STEPS:,} steps of {MICRO_BATCHES} micro-batches, "
            f"a record every {LOG_EVERY}; parts: median",
        )
    ]


class Loop:
    """The trainer's loop without its steps."""

    def __init__(self, folder: Path) -> None:
        job = Job("train", folder)
        attempt = job.attempt(1)
        attempt.path.mkdir(parents=True)
        self._pages = pages_folder(f"benchmark.{time.monotonic_ns()}")
        self._log = logging.FileHandler(folder / "rank0.log")
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("orchestra")
        logger.setLevel(logging.INFO)
        logger.addHandler(self._log)
        self._recorder = Recorder(attempt, enabled=True)
        nothing: Any = None
        self.session = Session(
            job,
            attempt,
            nothing,
            nothing,
            Ranks(0, 1, _CPU),
            self._recorder,
            Heartbeat(self._pages, 0),
        )
        self._meter = Meter(_CPU)
        self._exchange = NoExchange()
        self._number = 0
        self._taken = Taken(
            totals=Totals(
                weight=300.0,
                sums={"loss": 900.0, "accuracy": 200.0},
                stop=False,
                expired=False,
                finite=True,
            ),
            applied=True,
            overflow=False,
            grad_norm=1.5,
            lr=1e-3,
            non_finite=(),
            data_s=0.0,
            wait_s=0.0,
        )

    def step(self) -> None:
        self._number += 1
        self.beats()
        self.session.stop_requested()
        self.measure_step()
        if self._number % LOG_EVERY == 0:
            self.record()

    def beats(self) -> None:
        beat = self.session.pulse.beat
        for _ in range(MICRO_BATCHES):
            for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD):
                beat(self._number, phase)
        beat(self._number, Phase.OPTIMIZER)

    def measure_step(self) -> None:
        started = time.monotonic()
        elapsed_s = time.monotonic() - started
        self._meter.step(self._taken, 60.0, elapsed_s, self._exchange.exposed_s())

    def record(self) -> None:
        left = Left(steps=1000, validations=3, saves=5, seconds=None)
        values = {**self._meter.values(left), "skipped": 0}
        self._recorder.write("train", self._number, values)

    def close(self) -> None:
        self._recorder.close()
        logging.getLogger("orchestra").removeHandler(self._log)
        self._log.close()
        shutil.rmtree(self._pages)


def _cost_us(part: Any, times: int) -> float:
    costs = []
    for _ in range(times):
        started = time.perf_counter()
        part()
        costs.append(time.perf_counter() - started)
    return statistics.median(costs) * 1e6
