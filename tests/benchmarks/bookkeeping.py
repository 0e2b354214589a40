"""What the trainer does in a step beside Stepper.take, which a bare loop would not do.

Planned batches, the stop flag, heartbeats, copies of the buffers, a look after saves, statistics,
DDP's clocks, records, log, TensorBoard: the real trainer, with steps that do nothing but beat.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.wire.folders import Job
from tests.benchmarks.bookkeeping_rank import FIRST, STEPS
from tests.benchmarks.ranks import run_ranks
from tests.benchmarks.table import Row
from tests.exactness.launching import write_job

LOG_EVERY = 20
MICRO_BATCHES = 2
"""Of each rank."""
STEP_S = 0.01


def measure() -> list[Row]:
    """With one rank and with two."""
    return [_beside_steps(ranks) for ranks in (1, 2)]


def _beside_steps(ranks: int) -> Row:
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        job = _job(Path(folder) / "run", ranks)
        each_s = float(run_ranks("tests.benchmarks.bookkeeping_rank", job, ranks))
    return Row(
        f"bookkeeping of a {1000 * STEP_S:.0f} ms step, {ranks} rank{'s' * (ranks > 1)}",
        f"{each_s / STEP_S:.2%} ({1e6 * each_s:.0f} us)",
        "<= 1 %",
        f"probe task, mean of {STEPS:,} steps of {MICRO_BATCHES} micro-batches a rank, "
        f"a record every {LOG_EVERY}",
    )


def _job(folder: Path, ranks: int) -> Job:
    never = 10 * (FIRST + STEPS)
    return write_job(
        folder,
        batch={"micro_batches": MICRO_BATCHES * ranks},
        train={"max_steps": FIRST + STEPS + 1, "eval_every": never, "log_every": LOG_EVERY},
        checkpoint={"every": never},
    )
