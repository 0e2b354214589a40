"""A rank whose steps take turns with a bare loop's: what slows this machine down hits both."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from orchestra.config.frozen import read_frozen
from orchestra.tasks import Batch
from orchestra.train import rank
from orchestra.train.step import Stepper
from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from tests.benchmarks.bare_loop import bare_steps
from tests.benchmarks.ranks import answer

TURN = 10
"""Steps in a turn."""


class Turns:
    """Seconds of each turn. A turn of the run is all that lies between two of the bare loop."""

    def __init__(self, job: Job) -> None:
        code = Path(os.environ[CODE])
        # The run has one step more, before which its last turn ends.
        self._last = cast(int, read_frozen(job.config, code)[0].train.max_steps) - 1
        self._bare_steps = bare_steps(job, code, self._last)
        self._bare: list[float] = []
        self._ours: list[float] = []
        self._since = 0.0

    def before(self, number: int) -> None:
        """The run is about to take this step."""
        if number % TURN:
            return
        started = time.perf_counter()
        if number:
            self._ours.append(started - self._since)
        if number == self._last:
            answer({"bare": self._bare, "ours": self._ours})
            return
        for _ in range(TURN):
            next(self._bare_steps)
        self._since = time.perf_counter()
        self._bare.append(self._since - started)


def main() -> int:
    turns = Turns(Job("train", Path(sys.argv[sys.argv.index("--job") + 1])))
    original = Stepper.take

    def take(
        stepper: Stepper,
        number: int,
        numbers: Sequence[int],
        batches: Iterator[Batch],
        **asked: Any,
    ) -> Any:
        turns.before(number)
        return original(stepper, number, numbers, batches, **asked)

    Stepper.take = take  # type: ignore[method-assign, assignment]
    return rank.main()


if __name__ == "__main__":
    sys.exit(main())
