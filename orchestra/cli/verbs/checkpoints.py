"""orchestra checkpoints"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, emit_raw, table
from orchestra.cli.result import bold
from orchestra.formats import ago, number, size
from orchestra.wire.exit_codes import ExitCode

_SHORT = 12
Verify = Annotated[
    bool, typer.Option("--verify", help="Read every file and compare hashes; exit 1 if one is bad.")
]


def checkpoints(
    context: typer.Context, run: options.Run, json: options.Json = False, verify: Verify = False
) -> None:
    """List a run's checkpoints: score, size, why each is kept.

    Those that failed verification (quarantined) and those that `resume --from` went back behind
    (superseded) follow; neither is ever loaded.

    \b
    Examples:
      orchestra checkpoints @last
      orchestra checkpoints asr-wavlm-h7k2 --verify
      orchestra checkpoints @last --json | jq '.checkpoints[0].sha256'
    """
    from orchestra.schedule.listing import find_run
    from orchestra.schedule.saved import saved

    workspace = workspace_of(context)
    document = saved(workspace.runs.run(find_run(workspace, run)), check=verify)
    if json:
        emit_json(document)
    else:
        _page(document)
    if verify and any(item["state"] == "bad" for item in document["checkpoints"]):
        raise typer.Exit(ExitCode.FAILED)


def _page(document: dict[str, Any]) -> None:
    found = document["checkpoints"]
    if found:
        metric = next((item["metric"] for item in found if item["metric"]), None)
        score = f"score ({metric})" if metric else "score"
        table([_row(item, score) for item in found], right=("step", score, "size"))
    else:
        emit(f"no checkpoint yet: the first is saved after step {document['every']}")
    _section(
        "Quarantined: failed verification",
        [
            {"path": item["path"], "reason": item["reason"] or "-"}
            for item in document["quarantined"]
        ],
    )
    _section(
        "Superseded: resume --from went back behind them",
        [{"step": str(item["step"]), "path": item["path"]} for item in document["superseded"]],
    )


def _row(item: dict[str, Any], score: str) -> dict[str, str]:
    return {
        "step": str(item["step"]),
        score: number(item["score"]),
        "size": "-" if item["size_bytes"] is None else size(item["size_bytes"]),
        "saved": ago(item["saved_at"]),
        "kept as": ", ".join(item["kept_as"]) or "-",
        "sha256": (item["sha256"] or "-")[:_SHORT],
        "state": f"{item['state']}: {item['reason']}" if item["reason"] else item["state"],
    }


def _section(title: str, rows: list[dict[str, str]]) -> None:
    if rows:
        emit()
        emit_raw(bold(title))
        table(rows, right=("step",))
