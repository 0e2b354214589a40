"""orchestra replay: a program of the training plane, run as a process."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit
from orchestra.cli.program import run_program


def replay(
    context: typer.Context,
    run: options.Run,
    capsule: Annotated[
        str | None,
        typer.Option(metavar="C", help="A step or a capsule's name, as `show` prints it."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="ID", help="On this GPU, by index or UUID; it is not reserved."),
    ] = None,
    json: options.Json = False,
) -> NoReturn:
    """Take a failed step again, name the utterance and the line.

    A step with an exception, or with a loss or gradient that is not finite, leaves a capsule in
    the run's folder: its batches and the weights it began with. They are replayed in one process
    under the run's own code, the newest capsule unless another one is named. Exits with 0 if the
    same happens again, with 1 if not, with 3 if the run has no capsule.

    \b
    Examples:
      orchestra replay @last
      orchestra replay h7k2 --capsule step-00000124
      orchestra replay h7k2 --gpu 0
      orchestra replay h7k2 --json | jq .alone
    """
    import os

    from orchestra.schedule.listing import find_run
    from orchestra.schedule.replay import prepare_replay

    workspace = workspace_of(context)
    chosen = prepare_replay(
        workspace, find_run(workspace, run), capsule=capsule, gpu=gpu, environment=os.environ
    )
    run_program(chosen.command, chosen.environment, workspace.root, json=json, show=_page)


def _page(document: dict[str, Any]) -> None:
    for capsule, recorded in zip(document["capsules"], document["recorded"], strict=True):
        emit(f"{capsule}: {recorded['what']}")
    for item in document["micro_batches"]:
        if item["finding"]:
            _finding(item)
    if document["reproduced"]:
        emit(f"\nreproduced on {document['replayed_on']}")
        _guilt(document)
    else:
        emit(f"\nnot reproduced on {document['replayed_on']}")
        _differences(document["differences"])


def _finding(item: dict[str, Any]) -> None:
    finding = item["finding"]
    emit(f"\nrank {item['rank']}, micro-batch {item['number']}: {', '.join(item['ids'])}")
    if finding["error"]:
        emit(f"  {finding['error']}")
    if finding["tensor"]:
        emit(f"  the first that is not finite: {finding['tensor']}")
    if finding["traceback"]:
        emit(finding["traceback"].rstrip())


def _guilt(document: dict[str, Any]) -> None:
    alone = document["alone"]
    first = next(item for item in document["micro_batches"] if item["finding"])
    count = len(first["ids"])
    if len(alone) > max(1, count / 2):
        cause = "the weights are at fault, not the data: lower the learning rate (optim.lr)"
        if first["finding"]["what"] == "exception":
            cause = "the code is at fault, not single utterances"
        emit(f"  {len(alone)} of the {count} utterances of that micro-batch do it alone: {cause}")
    elif alone:
        emit(f"  of that micro-batch it is enough to have: {', '.join(alone)}")
    else:
        emit("  no utterance of that micro-batch does it alone")


def _differences(found: list[str]) -> None:
    for difference in found:
        emit(f"  {difference}")
    if not found:
        emit("  no difference is known: look for what depends on time, files or earlier steps")
