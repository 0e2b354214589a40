"""orchestra logs"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_raw, is_terminal

if TYPE_CHECKING:
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.logs import LogFile
    from orchestra.workspace import Workspace

_POLL_S = 0.2


def logs(
    context: typer.Context,
    run: options.Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    rank: Annotated[int | None, typer.Option(min=0, metavar="R", help="Only this rank.")] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default: the newest.")
    ] = None,
    evaluation: Annotated[
        int | None, typer.Option("--eval", min=1, metavar="N", help="Of this evaluation.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The last N lines of each log.")
    ] = None,
) -> None:
    """Print what the ranks and the launcher wrote; lines carry their rank's name.

    \b
    Examples:
      orchestra logs @last -f
      orchestra logs h7k2 --rank 3 --tail 50
      orchestra logs h7k2 --attempt 1 > attempt1.log
      orchestra logs h7k2 --eval 2
    """
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.logs import log_files
    from orchestra.supervise.jobs import job_of

    workspace = workspace_of(context)
    key = JobKey(find_run(workspace, run), evaluation)
    job = job_of(workspace.runs, key)
    if follow:
        _follow(workspace, key, rank=rank, attempt=attempt, tail=tail)
        return
    files = log_files(job, attempt=attempt, rank=rank)
    _skip(files, tail)
    _print(files, prefixed=rank is None, to_the_end=True)


def _follow(
    workspace: Workspace, key: JobKey, *, rank: int | None, attempt: int | None, tail: int | None
) -> None:
    """New lines of the newest attempt, of the next one after a restart, until the job ends."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.logs import log_files, newest_attempt
    from orchestra.schedule.watch import look
    from orchestra.supervise.jobs import job_of
    from orchestra.wire.errors import NotFoundError

    job = job_of(workspace.runs, key)
    known: dict[str, LogFile] = {}
    with open_registry(workspace.runs) as registry:
        while True:
            ended = look(registry, key).ended  # asked before reading: nothing is missed
            number = attempt or newest_attempt(job)
            try:
                files = log_files(job, attempt=number or None, rank=rank)
            except NotFoundError:  # not started, or the rank has not written yet
                if ended:
                    raise
                files = []
            for file in files:
                if str(file.path) not in known:
                    known[str(file.path)] = file
                    _skip([file], tail)
            _print(list(known.values()), prefixed=rank is None, to_the_end=ended)
            if ended:
                return
            time.sleep(_POLL_S)


def _skip(files: list[LogFile], tail: int | None) -> None:
    if tail is not None:
        for file in files:
            file.skip_to_last(tail)


def _print(files: list[LogFile], *, prefixed: bool, to_the_end: bool) -> None:
    put = emit if is_terminal(sys.stdout) else emit_raw  # a file gets what was written
    width = max((len(file.name) for file in files), default=0)
    for file in files:
        prefix = f"{file.name:<{width}} | " if prefixed else ""
        for line in file.new_lines(to_the_end=to_the_end):
            put(prefix + line)
