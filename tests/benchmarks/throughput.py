"""Steps per second of orchestra's ranks against a bare loop of plain torch, on the same work."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from orchestra.wire.records import read_records
from tests.benchmarks.table import Row
from tests.exactness.launching import REPOSITORY, WORKSPACE, write_job

PAIRS = 5
STEPS = 400
FIRST = 50
"""Steps of warming up that don't count."""


def measure() -> list[Row]:
    """With one rank and with two."""
    return [_compare(ranks) for ranks in (1, 2)]


def _compare(ranks: int) -> Row:
    ours, bare = [], []
    with TemporaryDirectory(prefix="orchestra-benchmark-") as folder:
        for pair in range(PAIRS):
            job = _job(Path(folder) / f"pair-{pair}")
            bare.append(_bare_rate(job, ranks))
            ours.append(_rate(job, ranks))
    ratios = [our / plain for our, plain in zip(ours, bare, strict=True)]
    ratio = statistics.median(ratios)
    step_ms = 1000 / statistics.median(bare)
    return Row(
        f"throughput against a bare loop of plain torch, {ranks} rank{'s' * (ranks > 1)}",
        f"{ratio:.3f} x ({min(ratios):.3f} to {max(ratios):.3f})",
        ">= 0.97 x",
        f"example task, {STEPS - FIRST} steps of {step_ms:.0f} ms, one thread a rank; "
        f"median of {PAIRS} pairs in turn",
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
        train={"max_steps": STEPS, "eval_every": 10 * STEPS, "log_every": FIRST},
        checkpoint={"every": 10 * STEPS},
    )


def _rate(job: Job, ranks: int) -> float:
    """From one record's time to another's: all that lies between, whatever it is."""
    program = ["orchestra.train.rank", "--job", str(job.folder), "--kind", "train"]
    _run([*program, "--attempt", "1"], ranks)
    with job.attempt(1).records.open("rb") as file:
        times = {
            record.step: record.time_s for record in read_records(file) if record.kind == "train"
        }
    return (STEPS - FIRST) / (times[STEPS] - times[FIRST])


def _bare_rate(job: Job, ranks: int) -> float:
    out = job.folder / "rate"
    _run(["tests.benchmarks.bare_loop", str(job.folder), str(STEPS), str(FIRST), str(out)], ranks)
    return float(out.read_text())


def _run(program: list[str], ranks: int) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    subprocess.run(
        [sys.executable, *(torchrun if ranks > 1 else []), "-m", *program],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            CODE: str(WORKSPACE),
        },
        check=True,
        capture_output=True,
    )
