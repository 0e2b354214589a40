"""What saving a model of 200 MB costs the training loop, in the background and without it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from orchestra.config.schema import CheckpointConfig
from orchestra.train.checkpoint import Contents
from orchestra.train.goals import Goal
from orchestra.train.recorder import Recorder
from orchestra.train.saving import Saver
from orchestra.wire.checkpoints import silently
from tests.benchmarks.table import Row

LAYERS, WIDTH = 50, 1024
TRAINED, ROWS = 5, 32
"""Layers and rows that a step works on: it takes tens of milliseconds."""
SAVES, STEPS_PER_SAVE = 10, 40
BAR_S = 0.2


class _Quiet:
    def write(self, *values: object) -> None:
        pass

    def notice(self, *values: object) -> None:
        pass


@dataclass
class _Cost:
    """In seconds, one entry per save."""

    pauses: list[float] = field(default_factory=list)
    """save() and the poll() of each step until the next save."""
    slowdowns: list[float] = field(default_factory=list)
    """What the steps until the next save took longer than they do without saves."""


def measure() -> list[Row]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    size_mb = sum(parameter.nbytes for parameter in model.parameters()) / 1e6
    steps = _steps(model)
    for _ in range(STEPS_PER_SAVE):
        next(steps)
    usual_s = statistics.median(next(steps) for _ in range(2 * STEPS_PER_SAVE))
    rows = []
    for background in (True, False):
        cost = _save_beside(model, steps, usual_s, background=background)
        rows += _rows(cost, size_mb, usual_s, background=background)
    return rows


def _steps(model: torch.nn.Sequential) -> Iterator[float]:
    """Trains without end; yields how long each step took."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = torch.randn(ROWS, WIDTH)
    while True:
        started = time.perf_counter()
        optimizer.zero_grad()
        model[-TRAINED:](batch).square().mean().backward()
        optimizer.step()
        yield time.perf_counter() - started


def _save_beside(
    model: torch.nn.Sequential, steps: Iterator[float], usual_s: float, *, background: bool
) -> _Cost:
    cost = _Cost()
    with tempfile.TemporaryDirectory() as folder:
        goal, recorder = Goal("loss", "min"), cast(Recorder, _Quiet())
        saver = Saver(Path(folder), CheckpointConfig(every=1), goal, recorder, silently)
        saver.prepare(_contents(model))
        for _ in range(STEPS_PER_SAVE):
            next(steps)
        for number in range(1, SAVES + 1):
            started = time.perf_counter()
            saver.save(number, lambda: _contents(model), None, must=not background)
            pause_s, slowdown_s = time.perf_counter() - started, 0.0
            for _ in range(STEPS_PER_SAVE):
                slowdown_s += next(steps) - usual_s
                started = time.perf_counter()
                saver.poll()
                pause_s += time.perf_counter() - started
            cost.pauses.append(pause_s)
            cost.slowdowns.append(slowdown_s)
        saver.close()
    return cost


def _contents(model: torch.nn.Sequential) -> Contents:
    return Contents(dict(model.state_dict()), {}, {})


def _rows(cost: _Cost, size_mb: float, usual_s: float, *, background: bool) -> list[Row]:
    way = "in the background" if background else "without a background"
    how = f"{SAVES} saves of {size_mb:.0f} MB, each beside {STEPS_PER_SAVE} steps of "
    how += f"{usual_s * 1000:.0f} ms"
    bar = f"<= {BAR_S} s" if background else ""
    slower = statistics.mean(cost.slowdowns)
    return [
        Row(f"a save {way} stops training for", _spread(cost.pauses), bar, how),
        Row(f"steps beside a save {way}: slower by", f"{slower:.3f} s", "", "sum per save, mean"),
    ]


def _spread(values: list[float]) -> str:
    return f"{max(values):.3f} s at most, {statistics.mean(values):.3f} s mean"
