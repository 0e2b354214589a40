"""orchestra doctor"""

from __future__ import annotations

import typer

from orchestra.cli import options
from orchestra.cli.context import Globals
from orchestra.cli.output import emit, emit_json, emit_raw, paint
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.terminal import clean


def doctor(context: typer.Context, json: options.Json = False) -> None:
    """Look at this machine and workspace: versions, GPUs, disk, registry, what may kill runs.

    \b
    Examples:
      orchestra doctor
      orchestra doctor --json > for-the-bug-report.json

    Exits with 1 if something is wrong.
    """
    from orchestra.schedule.doctor import examine

    given: Globals = context.obj
    checks = examine(given.workspace, given.runs_dir)
    if json:
        emit_json([check.to_json() for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = paint("ok  ", "green") if check.ok else paint("BAD ", "red")
            emit_raw(f"{mark} {check.name:<{width}}  {clean(check.detail)}")
            if check.hint:
                emit(f"     {'':<{width}}  {check.hint}")
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.FAILED)
