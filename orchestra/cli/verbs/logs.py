"""orchestra logs"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of

if TYPE_CHECKING:
    from orchestra.cli.log_lines import Each, Merged, Wanted
    from orchestra.registry.rows import JobKey
    from orchestra.workspace import Workspace

_POLL_S = 0.2


def logs(
    context: typer.Context,
    run: options.Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    rank: Annotated[
        str | None, typer.Option(metavar="R", help="Only these ranks: 3, 0-3 or 0,2-3.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default: the newest.")
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", help="The attempt before the newest.")
    ] = False,
    evaluation: Annotated[
        int | None, typer.Option("--eval", min=1, metavar="N", help="Of this evaluation.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The last N lines of each log.")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only lines with it; capitals count if it has any."),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option("--merge", "-m", help="In order of time, what ranks say alike once."),
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes as they are, on a terminal too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document per line.")] = False,
) -> None:
    """Print what the ranks and the launcher wrote.
    Lines carry their rank's name.

    \b
    Examples:
      orchestra logs @last -f
      orchestra logs h7k2 --rank 3 --tail 50
      orchestra logs h7k2 --merge --grep error
      orchestra logs h7k2 --previous > before.log
      orchestra logs h7k2 --eval 2
      orchestra logs h7k2 --json | jq -r 'select(.rank == 0) | .line'

    On a terminal only colours are left of what escape sequences say; --raw alone obeys all of them.
    """
    from orchestra.cli.log_lines import Each, LinePrinter, Merged, Wanted
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.logs import parse_ranks, previous_attempt
    from orchestra.supervise.jobs import job_of
    from orchestra.wire.errors import UsageError

    if raw and (json or merge):
        raise UsageError("--raw prints bytes as they are: leave out --json and --merge")
    if previous and attempt:
        raise UsageError("--previous and --attempt both name an attempt: give one of them")
    ranks = None if rank is None else parse_ranks(rank)
    workspace = workspace_of(context)
    key = JobKey(find_run(workspace, run), evaluation)
    job = job_of(workspace.runs, key)
    wanted = Wanted(job, ranks, previous_attempt(job) if previous else attempt, tail)
    printer = LinePrinter(grep=grep, json=json, raw=raw)
    reader = Merged(wanted, printer) if merge else Each(wanted, printer)
    if follow:
        _follow(workspace, key, wanted, reader)
    else:
        reader.read(wanted.files(), to_the_end=True)


def _follow(workspace: Workspace, key: JobKey, wanted: Wanted, reader: Each | Merged) -> None:
    """New lines of the newest attempt, of the next one after a restart, until the job ends."""
    from orchestra.registry.store import open_registry
    from orchestra.schedule.watch import look
    from orchestra.wire.errors import NotFoundError

    with open_registry(workspace.runs) as registry:
        while True:
            ended = look(registry, key).ended  # asked before reading: nothing is missed
            try:
                files = wanted.files()
            except NotFoundError:  # not started, or the rank has not written yet
                if ended:
                    raise
                files = []
            reader.read(files, to_the_end=ended)
            if ended:
                return
            time.sleep(_POLL_S)
