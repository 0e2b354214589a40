"""The last part of `run`, `resume` and `eval`: start the queued job, then follow it or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from orchestra.cli.attach import Attached
from orchestra.cli.output import emit, say
from orchestra.cli.result import print_result
from orchestra.wire.errors import OrchestraError

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
    once_started: str = "",
) -> None:
    """Start `key` if it is its turn; detached, print the id; else follow it to its end.

    Args:
        withdraw: called, with the reason, if it can't start now, instead of waiting.
        once_started: said when it has not been withdrawn.
    """
    from orchestra.schedule.conductor import ensure_conductor

    started_s = time.time()
    try:
        _dispatch(workspace, key, withdraw, quiet=quiet)
    finally:  # whatever has become of this job, others may wait
        ensure_conductor(workspace)
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


def _dispatch(
    workspace: Workspace,
    key: JobKey,
    withdraw: Callable[[Workspace, JobKey, str], None] | None,
    *,
    quiet: bool,
) -> None:
    """Start what can start; if `key` is not among it, say why it waits, or withdraw it."""
    from orchestra.schedule.dispatch import dispatch
    from orchestra.schedule.queue import position_of

    try:
        started = dispatch(workspace)
    except OrchestraError as error:
        if withdraw is not None:
            withdraw(workspace, key, str(error))
        raise
    if key in started or (place := position_of(workspace, key)) is None:
        return
    if withdraw is not None:
        withdraw(workspace, key, place.reason)
    elif not quiet:
        say(str(place))
