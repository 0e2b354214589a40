"""The last part of `run`, `resume` and `eval`: start the queued job, then follow it or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from orchestra.cli.attach import Attached
from orchestra.cli.output import emit, say
from orchestra.cli.result import print_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.cli.interrupts import Interrupts
    from orchestra.registry.rows import JobKey
    from orchestra.workspace import Workspace


def launch(
    workspace: Workspace,
    key: JobKey,
    interrupts: Interrupts,
    *,
    detach: bool,
    quiet: bool,
    withdraw: Callable[[Workspace, JobKey, str], None] | None = None,
) -> None:
    """Start `key` if it is its turn; detached, print the id; else follow it to its end.

    `withdraw`: what happens to it if it can't start now, and why, instead of waiting.
    """
    from orchestra.schedule.conductor import ensure_conductor
    from orchestra.schedule.dispatch import dispatch
    from orchestra.schedule.queue import position_of

    started_s = time.time()
    if key not in dispatch(workspace) and (place := position_of(workspace, key)) is not None:
        if withdraw is not None:
            withdraw(workspace, key, place.reason)
        elif not quiet:
            say(str(place))
    ensure_conductor(workspace)
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
