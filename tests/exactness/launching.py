"""Starts real ranks of a small run under torchrun and reads what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from orchestra.config.frozen import dump, validate
from orchestra.tasks import find_task
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.job import CODE, TAG

WORKSPACE = Path(__file__).parent / "workspace"
REPOSITORY = Path(__file__).parents[2]
ALTERED_RANK = Path(__file__).parent / "altered_rank.py"


def write_job(folder: Path, *, kind: str = "probe", **tables: dict[str, Any]) -> Job:
    """A run folder with a frozen config; `tables` override single keys of the small default."""
    document: dict[str, Any] = {
        "seed": 3,
        "task": {"kind": kind},
        "upstream": {"kind": "fbank", "mels": 20, "deltas": 0},
        "data": {"workers": 0},
        "batch": {"seconds": 9.0, "max_micro_seconds": 3.0, "micro_batches": 6},
        "optim": {"lr": 0.01},
        "schedule": {"kind": "linear", "warmup_steps": 3},
        "train": {"max_steps": 12, "eval_every": 5, "log_every": 4},
        "checkpoint": {"every": 4},
    }
    for name, table in tables.items():
        document[name] = {**document.get(name, {}), **table}
    folder.mkdir(parents=True)
    job = Job("train", folder)
    job.config.write_bytes(dump(validate(document, find_task(kind, WORKSPACE))))
    return job


def launch(
    job: Job,
    *,
    ranks: int,
    attempt: int = 1,
    alter: str | None = None,
    environment: dict[str, str] | None = None,
) -> int:
    """Run one attempt to its end; returns the exit code, torchrun's if there are several ranks.

    `alter` names a change to the product that altered_rank.py makes first.
    """
    program = ["-m", "orchestra.train.rank"] if alter is None else [str(ALTERED_RANK)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    arguments = ["--job", str(job.folder), "--kind", job.kind, "--attempt", str(attempt)]
    tag = f"test.{uuid.uuid4().hex}"
    done = subprocess.run(
        [sys.executable, *(torchrun if ranks > 1 else []), *program, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            CODE: str(WORKSPACE),
            TAG: tag,
            "ALTER": alter or "",
            **(environment or {}),
        },
        capture_output=True,
        timeout=120,
        check=False,
    )
    shutil.rmtree(pages_folder(tag), ignore_errors=True)
    return done.returncode


def log_of(job: Job, attempt: int = 1, rank: int = 0) -> str:
    """What the rank printed."""
    return job.attempt(attempt).rank_log(rank).read_text()


def final_state(job: Job, step: int = 12) -> dict[str, Any]:
    """Size and hash of every file of the last checkpoint: weights, optimizer, progress."""
    manifest = job.run.checkpoint(step) / "manifest.json"
    files: dict[str, Any] = json.loads(manifest.read_bytes())["files"]
    return files


def consumed(log: Path, rank: int) -> list[list[str]]:
    """The ids of each training batch of a rank, without the two of the warm-up."""
    lines = (log / f"rank{rank}.txt").read_text().splitlines()
    return [json.loads(line) for line in lines[2:]]
