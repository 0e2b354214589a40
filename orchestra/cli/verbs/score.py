"""orchestra score: a program of the training plane, run as a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_if_any
from orchestra.cli.output import emit, is_terminal, table
from orchestra.cli.program import run_program
from orchestra.formats import number
from orchestra.wire.errors import UsageError

_STDIN = "-"


def score(
    context: typer.Context,
    run: options.RunOrExport,
    refs: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON Lines, a manifest, or CSV with a header.")
    ],
    predictions: Annotated[
        str, typer.Option(metavar="FILE|-", help="What `predict` printed; default: stdin.")
    ] = _STDIN,
    by: Annotated[
        str | None,
        typer.Option(metavar="id|path", help="Match by this; default: id where FILE has it."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score what has both a prediction and a reference.")
    ] = False,
    json: options.Json = False,
) -> NoReturn:
    """Score predictions against references, as the run's task does.

    FILE has a row per recording: `id` or `path`, and the labels under their names in the task's
    manifests, such as `text` or `label`. Cells of CSV are text. Refused where a prediction or a
    reference is left over, unless --partial says otherwise.

    \b
    Examples:
      orchestra predict h7k2 recordings/ | orchestra score h7k2 --refs refs.csv
      orchestra score h7k2 --refs test.jsonl --predictions p.jsonl --by path
      orchestra score ./models/kws --refs r.csv --predictions p.jsonl --partial
    """
    import os

    from orchestra.schedule.trained import find_trained, program_of

    if by not in (None, "id", "path"):
        raise UsageError(f"--by {by}: it is id or path")
    if predictions == _STDIN and is_terminal(sys.stdin):
        raise UsageError("pipe predictions in (`orchestra predict`), or give --predictions FILE")
    trained = find_trained(workspace_if_any(context), run)
    program = program_of(
        trained,
        "orchestra.train.score",
        [
            *("--learnt", str(trained.learnt), "--refs", str(refs)),
            *("--predictions", predictions),
            *(("--by", by) if by else ()),
            *(("--partial",) if partial else ()),
        ],
        os.environ,
    )
    run_program(program.command, program.environment, json=json, show=_show)


def _show(document: dict[str, Any]) -> None:
    metrics = document["metrics"]
    rest = sorted(metrics.keys() - set(document["declared"]))
    rows = [
        {"metric": name, "value": number(metrics[name]), "better": _better(document, name)}
        for name in (*document["declared"], *rest)
        if name in metrics
    ]
    table(rows, right=["value"])
    emit(f"{document['utterances']} utterances, matched by {document['matched_by']}")


def _better(document: dict[str, Any], name: str) -> str:
    direction = document["directions"].get(name)
    return {"min": "lower", "max": "higher"}.get(direction, "")
