"""Runs the training plane in the test's own process: one rank, no torchrun."""

from __future__ import annotations

from orchestra.config.schema import RunConfig
from orchestra.tasks import TaskInfo
from orchestra.train import session as sessions
from orchestra.train.final import evaluate_job
from orchestra.train.session import Session
from orchestra.train.trainer import train
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Heartbeat
from orchestra.wire.records import Record, read_records
from tests.exactness.launching import WORKSPACE


def open_here(job: Job, attempt: int = 1) -> Session:
    """A session of this process."""
    folder = job.attempt(attempt)
    folder.path.mkdir(parents=True, exist_ok=True)
    return sessions.open_session(job, folder, Heartbeat(job.folder / "pages", 0))


def run_here(job: Job, attempt: int = 1) -> list[Record]:
    """One attempt, to its end; returns its records."""
    session = open_here(job, attempt)
    if job.kind == "train":
        train(session)
    else:
        evaluate_job(session)
    return records_of(job, attempt)


def records_of(job: Job, attempt: int = 1) -> list[Record]:
    with job.attempt(attempt).records.open("rb") as file:
        return list(read_records(file))


def config_of(job: Job) -> tuple[RunConfig, TaskInfo]:
    return sessions.read_frozen(job.config, WORKSPACE)
