"""A rank whose steps do nothing but beat, so that what the trainer does beside them is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from orchestra.tasks import Batch
from orchestra.train import rank
from orchestra.train.step import Stepper, Taken, Totals
from orchestra.wire.heartbeat import Phase
from tests.benchmarks.heartbeat import IDS
from tests.benchmarks.ranks import answer

FIRST, STEPS = 500, 4000
"""Steps that don't count, and steps that do."""

TAKEN = Taken(
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


def main() -> int:
    started = 0.0

    def take(
        stepper: Any, number: int, numbers: Sequence[int], batches: Iterator[Batch], **asked: Any
    ) -> Taken:
        nonlocal started
        if number == FIRST:
            started = time.perf_counter()
        if number == FIRST + STEPS:
            answer((time.perf_counter() - started) / STEPS)
        for _ in numbers:
            for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD):
                stepper._beat(phase)
            stepper._note(IDS)
        stepper._beat(Phase.OPTIMIZER)
        return TAKEN

    Stepper.take = take  # type: ignore[method-assign, assignment]
    return rank.main()


if __name__ == "__main__":
    sys.exit(main())
