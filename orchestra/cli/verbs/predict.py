"""orchestra predict: a program of the training plane, whose stdout is ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_if_any
from orchestra.wire.errors import UsageError
from orchestra.wire.exit_codes import cli_code

_STDIN = "-"
_REFUSE, _REPORT = "refuse", "report"


def predict(
    context: typer.Context,
    run: options.RunOrExport,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|DIR|-", help="Recordings; - reads paths from stdin."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="S", help="A split of the run's data instead.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recordings of a manifest instead.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="best|last|STEP|PATH", help="Default: best.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="ID|any", help="On this GPU, leased meanwhile; default: the CPU."),
    ] = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="S", help="Audio in one pass; default: as `eval`."),
    ] = None,
    on_error: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|report",
            help="A bad recording ends it, or gets an error record. Default: refuse, - reports.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there, whole or not at all.")
    ] = None,
) -> NoReturn:
    """Predict any recordings, as one JSON object per line.
    Any rate, format and number of channels will do.

    The same audio gets what `eval` gives for it. RUN may be a run or the folder of an export.
    A folder means all audio files below it; an id is the path without its suffix.

    \b
    Examples:
      orchestra predict @last recording.wav
      orchestra predict h7k2 recordings/ --out predictions.jsonl
      find /corpora -name '*.flac' | orchestra predict h7k2 -
      orchestra predict ./models/kws a.wav b.mp3 --gpu any
      orchestra predict h7k2 --split test | orchestra score h7k2 --refs t.jsonl

    Unless told otherwise, nothing is predicted if any file can't be read: all are named. With -,
    each path is answered as it comes, with {"id", "path", "error"} where there is no prediction;
    the exit code is then 1.
    """
    import os
    import subprocess

    from orchestra.cli.interrupts import Interrupts
    from orchestra.schedule.trained import find_trained, leased, program_of

    words = _source(paths or [], split, manifest)
    if on_error is None:
        on_error = _REPORT if paths == [_STDIN] else _REFUSE
    if on_error not in (_REFUSE, _REPORT):
        raise UsageError(f"--on-error {on_error}: it is {_REFUSE} or {_REPORT}")
    trained = find_trained(workspace_if_any(context), run)
    weights = trained.weights(checkpoint)
    with leased(trained, gpu) as devices:
        program = program_of(
            trained,
            "orchestra.train.predict",
            [
                *("--weights", str(weights), "--on-error", on_error),
                *(("--gpu",) if devices else ()),
                *(("--batch-seconds", str(batch_seconds)) if batch_seconds else ()),
                *(("--out", str(out)) if out else ()),
                *words,
            ],
            os.environ,
            devices=devices,
        )
        with Interrupts():
            done = subprocess.run(program.command, env=program.environment, check=False)
    raise typer.Exit(cli_code(done.returncode))


def _source(paths: list[str], split: str | None, manifest: Path | None) -> list[str]:
    """What is to be predicted, as the program takes it (UsageError: nothing, or two things)."""
    given = [bool(paths), split is not None, manifest is not None]
    if sum(given) != 1:
        raise UsageError(
            "name what to predict: files and folders, - for paths from stdin, --split S, or "
            "--manifest FILE" + (", one of them" if any(given) else "")
        )
    if _STDIN in paths and len(paths) > 1:
        raise UsageError("- stands for all paths: name no other beside it")
    if split is not None:
        return ["--split", split]
    if manifest is not None:
        return ["--manifest", str(manifest)]
    return ["--", *paths]
