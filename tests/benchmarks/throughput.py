"""Steps per second of orchestra's ranks against a bare loop of plain torch, on the same work.

Both are in the same processes and take turns of a few steps; see bare_loop.py for what is compared.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.wire.folders import Job
from tests.benchmarks.ranks import run_ranks
from tests.benchmarks.table import Row
from tests.benchmarks.throughput_rank import STEPS, TURN, TURNS
from tests.exactness.launching import write_job

FIRST = 10
"""Turns of warming up that don't count."""


def measure() -> list[Row]:
    """With one rank and with two."""
    return [_compare(ranks) for ranks in (1, 2)]


def _compare(ranks: int) -> Row:
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        taken = run_ranks("tests.benchmarks.throughput_rank", _job(Path(folder) / "run"), ranks)
    ours, bare = taken["ours"][FIRST:], taken["bare"][FIRST:]
    ratios = [plain_s / our_s for our_s, plain_s in zip(ours, bare, strict=True)]
    low, ratio, high = statistics.quantiles(ratios)
    step_ms = 1000 * statistics.median(bare) / TURN
    return Row(
        f"throughput against a bare loop of plain torch, {ranks} rank{'s' * (ranks > 1)}",
        f"{ratio:.3f} x (quartiles {low:.3f} and {high:.3f})",
        ">= 0.97 x",
        f"example task, steps of {step_ms:.0f} ms, one thread a rank; "
        f"median of {TURNS - FIRST} pairs of {TURN} steps in turn",
    )


def _job(folder: Path) -> Job:
    return write_job(
        folder,
        kind="example",
        task={"train_utterances": 2000, "other_utterances": 16, "hidden": 128},
        upstream={"mels": 40, "deltas": 1},
        batch={"seconds": 16.0, "max_micro_seconds": 10.0, "micro_batches": 2},
        optim={"lr": 1e-3},
        schedule={"kind": "constant", "warmup_steps": 0},
        train={"max_steps": STEPS, "eval_every": 10 * STEPS, "log_every": TURN},
        checkpoint={"every": 10 * STEPS},
    )
