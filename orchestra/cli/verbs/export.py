"""orchestra export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit
from orchestra.cli.program import run_program
from orchestra.formats import number


def export(
    context: typer.Context,
    run: options.Run,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    checkpoint: Annotated[
        str, typer.Option(metavar="best|last|STEP|PATH", help="Which checkpoint.")
    ] = "best",
    json: options.Json = False,
) -> NoReturn:
    """Export the weights of a run: its head, and a tuned upstream.
    In safetensors, with the config.

    \b
    Examples:
      orchestra export @last models/kws
      orchestra export h7k2 models/asr --checkpoint 20000
      orchestra run ks --upstream models/asr/upstream   # the tuned upstream
      orchestra run asr --init-from models/asr          # all of it

    DIR/upstream is a folder of transformers' save_pretrained. DIR appears whole or not at all.
    """
    import os

    from orchestra.schedule.export import prepare_export
    from orchestra.schedule.listing import find_run

    workspace = workspace_of(context)
    program = prepare_export(
        workspace,
        find_run(workspace, run),
        checkpoint=checkpoint,
        out=out,
        environment=os.environ,
    )
    run_program(program.command, program.environment, workspace.root, json=json, show=_tell)


def _tell(document: dict[str, Any]) -> None:
    checkpoint = document["checkpoint"]
    size = sum(file["size"] for file in document["files"].values())
    emit(document["folder"])
    emit(
        f"  step {checkpoint['step']}, {checkpoint['metric']} {number(checkpoint['score'])}, "
        f"{len(document['files'])} files, {size / 2**20:.1f} MiB"
    )
    if document["upstream"]["tuned"]:
        emit(f"  upstream: --upstream {document['folder']}/upstream")
