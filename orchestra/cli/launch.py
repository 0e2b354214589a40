"""The last part of `run`, `resume` and `eval`: start the queued job, then follow it or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from orchestra.cli.attach import Attached
from orchestra.cli.output import emit, say
from orchestra.cli.result import print_result

if TYPE_CHECKING:
    from orchestra.cli.interrupts import Interrupts
    from orchestra.registry.rows import JobKey
    from orchestra.schedule.begin import Withdraw
    from orchestra.workspace import Workspace


def launch(
    workspace: Workspace,
    key: JobKey,
    interrupts: Interrupts,
    *,
    detach: bool,
    quiet: bool,
    withdraw: Withdraw | None = None,
    once_started: str = "",
) -> None:
    """Start `key` if it is its turn; detached, print the id; else follow it to its end.

    Args:
        withdraw: called, with the reason, if it can't start now, instead of waiting.
        once_started: said when it has not been withdrawn.
    """
    from orchestra.schedule.begin import begin

    started_s = time.time()
    place = begin(workspace, key, withdraw=withdraw)
    if place is not None and not quiet:
        say(str(place))
    if once_started and not quiet:
        say(once_started)
    if detach or quiet:
        emit(key.run_id)
    if detach:
        if not quiet:
            say(f"detached; `orchestra wait {key.run_id}` waits for its end")
        return
    attached = Attached(workspace, key, quiet=quiet)
    view = attached.follow(interrupts)
    if view is None:
        return
    if not quiet:
        print_result(workspace, view, started_s)
    raise typer.Exit(attached.exit_code(view))
