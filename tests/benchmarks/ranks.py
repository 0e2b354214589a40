"""Starts ranks of a training whose steps a benchmark has replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestra.wire.folders import Job
from orchestra.wire.job import CODE
from tests.exactness.launching import REPOSITORY, WORKSPACE

OUT = "BENCHMARK_OUT"
"""Environment: the file that rank 0 writes its answer to, as JSON."""


def run_ranks(module: str, job: Job, ranks: int) -> Any:
    """One attempt, with `module` in the place of orchestra.train.rank; gives rank 0's answer."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    program = [module, "--job", str(job.folder), "--kind", "train", "--attempt", "1"]
    out = job.folder / "answer.json"
    subprocess.run(
        [sys.executable, *(torchrun if ranks > 1 else []), "-m", *program],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            CODE: str(WORKSPACE),
            OUT: str(out),
        },
        check=True,
        capture_output=True,
    )
    return json.loads(out.read_bytes())


def answer(value: Any) -> None:
    """Called by every rank; the first one's is taken."""
    if os.environ.get("RANK", "0") == "0":
        Path(os.environ[OUT]).write_text(json.dumps(value))
