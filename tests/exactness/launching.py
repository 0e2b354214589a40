"""Starts real ranks of a small run, under torchrun or out of one process, kills them, and reads
what they leave."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestra.config.frozen import dump, validate
from orchestra.supervise import tree
from orchestra.tasks import find_task
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.job import CODE, TAG, Result

WORKSPACE = Path(__file__).parent / "workspace"
REPOSITORY = Path(__file__).parents[2]
WATCHED_RANK = Path(__file__).parent / "watched_rank.py"
PATIENCE_S = 120.0

Consumed = dict[int, dict[int, list[str]]]
"""Step (the first is 0) -> number of the micro-batch in it -> ids."""


@dataclass(frozen=True)
class Kill:
    """A SIGKILL at one place of an attempt."""

    rank: int
    step: int
    """The first is 0."""
    batch: int = 0
    """Which of this rank's micro-batches of the step: it was read, but not yet trained on."""
    once_saved: int | None = None
    """Wait before it until this checkpoint is on disk."""
    everyone: bool = False
    """Kill launcher, ranks and loader workers, not this rank alone."""


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
        kept = {} if name == "upstream" and "kind" in table else document.get(name, {})
        document[name] = {**kept, **table}
    folder.mkdir(parents=True)
    job = Job("train", folder)
    job.config.write_bytes(dump(validate(document, find_task(kind, WORKSPACE))))
    return job


def launch(
    job: Job,
    *,
    ranks: int,
    attempt: int = 1,
    alter: str = "",
    kill: Kill | None = None,
    torchrun: bool = True,
) -> int:
    """Run one attempt to its end; returns the exit code, torchrun's if there are several ranks.

    Args:
        alter: names a change to the product that watched_rank.py makes first.
        torchrun: False: several ranks are forked out of one process instead, which is quicker.
    """
    how = {"attempt": attempt, "alter": alter, "kill": kill, "torchrun": torchrun}
    with started(job, ranks=ranks, **how) as (process, _):
        process.wait(PATIENCE_S)
    return process.returncode


@contextmanager
def started(
    job: Job,
    *,
    ranks: int,
    attempt: int,
    alter: str = "",
    kill: Kill | None = None,
    torchrun: bool = True,
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An attempt that runs, and its tag; nothing of it is left alive afterwards."""
    arguments = ["--job", str(job.folder), "--kind", job.kind, "--attempt", str(attempt)]
    tag = f"test.{uuid.uuid4().hex}"
    told = _consumed_folder(job) / f"{attempt:04d}"
    told.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, *_program(ranks, torchrun), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",  # no thread may be there to fork beside
            CODE: str(WORKSPACE),
            TAG: tag,
            "WATCH_LOG": str(told),
            "WATCH_ALTER": alter,
            "WATCH_KILL": json.dumps(asdict(kill)) if kill else "",
        },
    )
    try:
        yield process, tag
    finally:
        leftovers = tree.sweep(tag, PATIENCE_S).leftovers
        process.wait()
        shutil.rmtree(pages_folder(tag), ignore_errors=True)
    assert not leftovers


def _program(ranks: int, torchrun: bool) -> list[str]:
    if ranks == 1:
        return [str(WATCHED_RANK)]
    if torchrun:
        started_by = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        return [*started_by, str(WATCHED_RANK)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one, many = "tests.train.forked_rank", "tests.train.together"
    return ["-m", many, one, str(ranks), str(ranks), str(port)]


@dataclass(frozen=True)
class Interruption:
    """How a run is interrupted, and where it has to continue."""

    resumes_at: int
    kill: Kill | None = None
    alter: str = ""


def interrupted(job: Job, ranks: int, interruption: Interruption) -> Job:
    """The run after two attempts: the first is killed, the second goes on to the end."""
    assert launch(job, ranks=ranks, alter=interruption.alter, kill=interruption.kill) != 0
    assert Result.read(job.attempt(1)) is None, "the kill came too late"
    assert launch(job, ranks=ranks, attempt=2) == 0, log_of(job, 2)
    assert min(trained_on(job, 2)) == interruption.resumes_at, "not from the newest checkpoint"
    return job


def log_of(job: Job, attempt: int = 1, rank: int = 0) -> str:
    """What the rank printed."""
    return job.attempt(attempt).rank_log(rank).read_text()


def final_state(job: Job, step: int = 12) -> dict[str, Any]:
    """What the checkpoint of `step` holds: size and hash of each file of tensors, and all that is
    no tensor. All of it must be equal, bit for bit, but for the hours that were trained."""
    folder = job.run.checkpoint(step)
    files: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())["files"]
    return {**files, "state.json": json.loads((folder / "state.json").read_bytes())}


def predicted(job: Job) -> tuple[int, bytes]:
    """Step of the best checkpoint and what it predicts for the test split."""
    evaluation = job.run.evaluation(1)
    step: int = json.loads(evaluation.metrics.read_bytes())["checkpoint"]["step"]
    return step, evaluation.predictions.read_bytes()


def consumed(job: Job) -> Consumed:
    """What the run was trained on, over all attempts and ranks: what was consumed after the
    checkpoint that an attempt resumed from replaces what the attempts before had consumed there."""
    run: Consumed = {}
    for attempt in map(_consumed_in, sorted(_consumed_folder(job).iterdir())):
        if attempt:
            resumed_at = min(attempt)
            run = {step: run[step] for step in run if step < resumed_at} | attempt
    return run


def trained_on(job: Job, attempt: int) -> Consumed:
    """What one attempt was trained on; empty if it did not come to its first step."""
    return _consumed_in(_consumed_folder(job) / f"{attempt:04d}")


def ids_of(step: dict[int, list[str]]) -> list[str]:
    """The utterances of one step."""
    return [name for micro in step.values() for name in micro]


def _consumed_folder(job: Job) -> Path:
    return job.folder / "consumed"


def _consumed_in(attempt: Path) -> Consumed:
    """What the ranks told that read batches in this attempt."""
    found: Consumed = {}
    for file in attempt.iterdir():
        for line in file.read_text().splitlines():
            step, micro, ids = json.loads(line)
            assert micro not in found.setdefault(step, {}), "consumed twice in one attempt"
            found[step][micro] = ids
    return found
