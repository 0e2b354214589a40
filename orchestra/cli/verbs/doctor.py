"""orchestra doctor"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import Globals
from orchestra.cli.output import emit, emit_json, emit_raw, paint
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from orchestra.schedule.doctor import Check

_WIDTH = 12  # of a check's name


def doctor(
    context: typer.Context,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Train on N GPUs for a minute; 0: on the CPU."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Look for what may go wrong, here and on this machine.
    Versions, GPUs, disk, registry, what may kill runs.

    \b
    Examples:
      orchestra doctor
      orchestra doctor --gpus 4     # a job started, killed, stopped, resumed
      orchestra doctor --json > for-the-bug-report.json

    --gpus works in a folder of its own, and leaves nothing behind. Exits with 1 if something is
    wrong.
    """
    from orchestra.schedule.doctor import examine

    given: Globals = context.obj
    checks = []
    for check in chain(examine(given.workspace, given.runs_dir), _selfcheck(gpus)):
        checks.append(check)
        if not json:
            _show(check)
    if json:
        emit_json([check.to_json() for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.FAILED)


def _selfcheck(gpus: int | None) -> Iterator[Check]:
    if gpus is not None:
        from orchestra.schedule.selfcheck import selfcheck

        yield from selfcheck(gpus)


def _show(check: Check) -> None:
    """At once: some take a while."""
    mark = paint("ok  ", "green") if check.ok else paint("BAD ", "red")
    emit_raw(f"{mark} {check.name:<{_WIDTH}}  {clean(check.detail)}")
    if check.hint:
        emit(f"     {'':<{_WIDTH}}  {check.hint}")
