"""What torchrun starts: `-m orchestra.train.rank --job DIR --kind train|evaluate --attempt N`.

Ties this process to its parent, its log, its heartbeat and the stacks it may be asked for before
anything slow is imported.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import sys
from pathlib import Path

from orchestra.wire import lifeline, stacks
from orchestra.wire.errors import (
    ConflictError,
    NotFoundError,
    OrchestraError,
    OutOfMemoryError,
    UsageError,
)
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.files import DISK_FULL
from orchestra.wire.folders import AttemptFolder, Job, JobKind
from orchestra.wire.heartbeat import Heartbeat, pages_folder
from orchestra.wire.job import TAG


def main() -> int:
    """Run this rank; returns its exit code."""
    lifeline.die_with_parent()
    job, attempt = _arguments()
    tag = os.environ.get(TAG)
    pulse: Heartbeat | None = None
    try:
        if tag is None:
            _own(job)
        rank = int(os.environ.get("RANK", "0"))
        attempt.logs.mkdir(parents=True, exist_ok=True)
        _redirect(attempt.rank_log(rank))
        with stacks.on_request(attempt.rank_stacks(rank)):
            pulse = Heartbeat(pages_folder(tag or f"{job.run.id}.{attempt.number}.plain"), rank)
            lifeline.announce(os.environ)  # for loader workers
            return _run(job, attempt, pulse)
    except OrchestraError as error:
        print(error, file=sys.stderr)
        return _exit_code(error)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"the disk is full: {error}", file=sys.stderr)
        return ExitCode.DISK_FULL
    finally:
        if tag is None and pulse is not None:
            pulse.remove()


def _own(job: Job) -> None:
    """Started by hand: keep supervisors away for the life of this process, or stay away.

    Raises:
        ConflictError: a supervisor is at work in the job's folder.
    """
    fd = os.open(job.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared by the ranks
    except BlockingIOError:
        os.close(fd)
        raise ConflictError(
            f"{job.folder} is at work under a supervisor: stop it first, or copy the folder"
        ) from None


def _run(job: Job, attempt: AttemptFolder, pulse: Heartbeat) -> int:
    from torch.distributed.elastic.multiprocessing.errors import record

    from orchestra.train.error_file import WholeErrorFile

    def run() -> None:
        from orchestra.train.distributed import leave
        from orchestra.train.final import evaluate_job
        from orchestra.train.memory import is_out_of_memory
        from orchestra.train.session import open_session
        from orchestra.train.trainer import train

        try:
            session = open_session(job, attempt, pulse)
            if job.kind == "train":
                train(session)
            else:
                evaluate_job(session)
            leave(session.ranks)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(f"out of memory: {str(error).splitlines()[0]}") from error

    record(run, WholeErrorFile())()  # tells the agent what is raised
    return ExitCode.OK


def _arguments() -> tuple[Job, AttemptFolder]:
    parser = argparse.ArgumentParser(prog="python -m orchestra.train.rank", allow_abbrev=False)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--kind", choices=("train", "evaluate"), required=True)
    parser.add_argument("--attempt", type=int, required=True)
    arguments = parser.parse_args()
    kind: JobKind = arguments.kind
    job = Job(kind, arguments.job.absolute())
    return job, job.attempt(arguments.attempt)


def _redirect(path: Path) -> None:
    """Send everything this process and its libraries print to `path`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    # Every print of a task's author is in the log at once.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )


def _exit_code(error: OrchestraError) -> int:
    """Trying again is pointless after these: the supervisor tells them by the code."""
    if isinstance(error, UsageError | NotFoundError):
        return ExitCode.BAD_CONFIG
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
