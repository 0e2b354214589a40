"""`python -m orchestra.supervise FOLDER --kind KIND --runs DIR --workspace DIR`: one supervisor.

Started detached by orchestra.schedule.dispatch, with stderr in supervisor.log.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.conductor import ensure_conductor
from orchestra.schedule.reap import reap_dead
from orchestra.supervise.jobs import key_of
from orchestra.supervise.lock import FileLock
from orchestra.supervise.log import log
from orchestra.supervise.reconcile import reconcile
from orchestra.supervise.supervisor import Supervisor
from orchestra.wire.errors import OrchestraError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.states import ENDED, RunState
from orchestra.workspace import Workspace

_LOCK_WAIT_S = 1.0  # a dispatcher or `stop` may hold the lock for a moment


def main(argv: list[str]) -> int:
    """Supervise one job to its end, then let the next queued ones start."""
    arguments = _parser().parse_args(argv)
    job = Job(arguments.kind, arguments.folder)
    workspace = Workspace(arguments.workspace, RunsFolder(arguments.runs))
    lock = _lock(job, arguments.lock_fd)
    if lock is None:
        log(f"{job.folder} has a supervisor already; this one ends")
        return ExitCode.CONFLICT
    try:
        with open_registry(workspace.runs) as registry:
            supervisor = None
            with lock:
                os.chdir(workspace.root)
                state = reconcile(job, key_of(job), registry)
                if state is not None and state.state not in ENDED:
                    supervisor = _supervisor(job, workspace, registry, dict(arguments.lease))
                    # Its devices are taken if it is queued again: it would start again at once.
                    others_may_start = supervisor.run() != RunState.QUEUED
            try:
                if supervisor is None or others_may_start:
                    from orchestra.schedule.dispatch import dispatch

                    dispatch(workspace)
            finally:  # what could not be dispatched now is the conductor's
                ensure_conductor(workspace)
                if supervisor is not None:
                    supervisor.finish()
    except OrchestraError as error:
        log(str(error))
        return error.exit_code
    return ExitCode.OK


def _supervisor(
    job: Job, workspace: Workspace, registry: Registry, handed: dict[str, int]
) -> Supervisor:
    return Supervisor(
        job,
        key_of(job),
        workspace.runs,
        workspace.root,
        registry,
        handed,
        keep_conductor=partial(ensure_conductor, workspace),
        reap_dead=partial(reap_dead, workspace.runs),
    )


def _lock(job: Job, fd: int | None) -> FileLock | None:
    return FileLock.acquire(job.lock, _LOCK_WAIT_S) if fd is None else FileLock(fd)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestra.supervise")
    parser.add_argument("folder", type=Path, help="the job's folder")
    parser.add_argument("--kind", choices=("train", "evaluate"), required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, help="a descriptor that holds the job's lock")
    parser.add_argument(
        "--lease",
        type=_lease,
        action="append",
        default=[],
        metavar="UUID=FD",
        help="a GPU of the job and the descriptor that holds its lease; repeatable",
    )
    return parser


def _lease(word: str) -> tuple[str, int]:
    uuid, _, fd = word.rpartition("=")
    return uuid, int(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
