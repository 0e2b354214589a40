"""Runs a program of the training plane for a verb: its stderr is ours, its stdout one document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from orchestra.cli.output import emit_json
from orchestra.wire.exit_codes import cli_code


def run_program(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    *,
    json: bool,
    show: Callable[[dict[str, Any]], None],
) -> NoReturn:
    """Run it, print its document as JSON or by `show`, end with its exit code.

    Ctrl-C reaches the program too: it tidies up and ends by itself.
    """
    import subprocess
    from json import loads

    from orchestra.cli.interrupts import Interrupts

    with Interrupts():
        done = subprocess.run(
            command, env=environment, cwd=folder, check=False, stdout=subprocess.PIPE, text=True
        )
    if done.stdout:
        document = loads(done.stdout)
        emit_json(document) if json else show(document)
    raise typer.Exit(cli_code(done.returncode))
