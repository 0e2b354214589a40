"""Runs of a task that one utterance breaks."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from orchestra.config.frozen import dump, validate
from orchestra.tasks import find_task
from orchestra.wire.files import write_json
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import pages_folder
from orchestra.wire.job import CODE, TAG
from tests.train import forked_rank
from tests.train.together import run_together

FAULTY = Path(__file__).parent / "faulty"
GUILTY = "train-7"


def faulty_job(folder: Path, fault: str, *, guilty: str = GUILTY, **tables: Any) -> Job:
    """A run folder; a step is 2 micro-batches of 2 or 3 utterances."""
    document: dict[str, Any] = {
        "seed": 3,
        "task": {"kind": "faulty", "fault": fault, "guilty": guilty},
        "upstream": {"kind": "fbank", "mels": 20, "deltas": 0},
        "data": {"workers": 0},
        "batch": {"seconds": 2.0, "max_micro_seconds": 1.0, "micro_batches": 2},
        "optim": {"lr": 0.01},
        "train": {"max_steps": 6, "eval_every": 50, "log_every": 1},
        "checkpoint": {"every": 50},
    }
    for name, table in tables.items():
        document[name] = {**document.get(name, {}), **table}
    folder.mkdir(parents=True)
    job = Job("train", folder)
    job.config.write_bytes(dump(validate(document, find_task("faulty", FAULTY))))
    write_json(job.run.provenance, {"code": "0123", "commit": "abc", "tree": "def", "dirty": True})
    return job


def run_two_ranks(job: Job) -> int:
    """One attempt; 0 if both ranks have ended well."""
    tag = f"test.{uuid.uuid4().hex}"
    arguments = ("--job", job.folder, "--kind", "train", "--attempt", 1)
    words = (2, forked_rank.free_port(), *arguments)
    try:
        run_together(forked_rank, 2, *words, environment={CODE: str(FAULTY), TAG: tag})
    except subprocess.CalledProcessError as error:
        return error.returncode
    finally:
        shutil.rmtree(pages_folder(tag), ignore_errors=True)
    return 0
