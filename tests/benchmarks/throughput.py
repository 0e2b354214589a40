"""Steps per second of orchestra's ranks against a bare loop of plain torch, on the same work.

Both are in the same processes and take turns of a few steps; see bare_loop.py for what is compared.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.wire.folders import Job
from tests.benchmarks.ranks import run_ranks
from tests.benchmarks.table import Row
from tests.benchmarks.throughput_rank import TURN
from tests.exactness.launching import write_job

FIRST = 10
"""Turns of warming up that don't count."""


@dataclass(frozen=True)
class Size:
    """Of the steps: what orchestra costs is the same for each, whatever it holds."""

    seconds: float
    turns: int


SHORT, LONG = Size(16.0, 110), Size(96.0, 50)


def measure() -> list[Row]:
    """With one rank and with two, in short steps and in longer ones."""
    return [_compare(ranks, size) for size in (LONG, SHORT) for ranks in (1, 2)]


def _compare(ranks: int, size: Size) -> Row:
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        job = _job(Path(folder) / "run", size)
        taken = run_ranks("tests.benchmarks.throughput_rank", job, ranks)
    ours, bare = taken["ours"][FIRST:], taken["bare"][FIRST:]
    ratios = [plain_s / our_s for our_s, plain_s in zip(ours, bare, strict=True)]
    low, ratio, high = statistics.quantiles(ratios)
    step_ms = 1000 * statistics.median(bare) / TURN
    return Row(
        f"throughput against a bare loop of plain torch, {ranks} rank{'s' * (ranks > 1)}, "
        f"steps of {step_ms:.0f} ms",
        f"{ratio:.3f} x (quartiles {low:.3f} and {high:.3f})",
        ">= 0.97 x",
        f"example task, {size.seconds:g} s of audio a step, one thread a rank; "
        f"median of {len(ratios)} pairs of {TURN} steps in turn",
    )


def _job(folder: Path, size: Size) -> Job:
    steps = size.turns * TURN + 1
    return write_job(
        folder,
        kind="example",
        task={"train_utterances": 2000, "other_utterances": 16, "hidden": 128},
        upstream={"mels": 40, "deltas": 1},
        batch={
            "seconds": size.seconds,
            "max_micro_seconds": 0.625 * size.seconds,
            "micro_batches": 2,
        },
        optim={"lr": 1e-3},
        schedule={"kind": "constant", "warmup_steps": 0},
        train={"max_steps": steps, "eval_every": 10 * steps, "log_every": 2 * TURN},
        checkpoint={"every": 10 * steps},
    )
