"""Starts what outlives its starter: own session, stdio in a log, nothing of a job's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestra.wire import lifeline
from orchestra.wire.job import CODE, JOB, LAUNCHER, RUN, TAG, WORKSPACE

# It must not look like a part of the job from whose shell it was started.
_OF_A_JOB = (RUN, TAG, JOB, LAUNCHER, CODE, WORKSPACE, lifeline.PARENT_PID)


def own_environment() -> dict[str, str]:
    """This process's environment without what belongs to a job."""
    return {name: value for name, value in os.environ.items() if name not in _OF_A_JOB}


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    folder: Path,
    environment: dict[str, str],
    lock_fd: int,
    fds: tuple[int, ...] = (),
) -> None:
    """Run a module of the installed orchestra in `folder` (OSError).

    It gets the held lock, and the descriptors `fds` under the same numbers.
    """
    # -P: not a checkout that happens to be the workspace
    command = [sys.executable, "-P", "-m", module, *arguments, "--lock-fd", str(lock_fd)]
    with log.open("ab") as output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
            pass_fds=(lock_fd, *fds),
            start_new_session=True,
        )
