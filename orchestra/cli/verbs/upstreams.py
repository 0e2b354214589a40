"""orchestra upstreams"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, table
from orchestra.wire.errors import NotFoundError


def upstreams(context: typer.Context, json: options.Json = False) -> None:
    """List the upstreams known by name and the workspace's own.
    Hub ids, URLs and folders work too.

    \b
    Examples:
      orchestra upstreams
      orchestra upstreams --json              # with families and aliases
      orchestra run asr --upstream hubert_large_ll60k
      orchestra run asr --upstream facebook/wav2vec2-base
      orchestra run asr --upstream /models/m  # written by save_pretrained
      orchestra run asr --upstream mine       # the class in upstreams/mine.py
    """
    from orchestra.config.upstream_table import BY_ALIAS

    rows = [*_own(context), *_known()]
    if json:
        emit_json(rows)
        return
    table(
        [
            {
                "upstream": row["name"],
                "layers": _shown(row["layers"]),
                "dim": _shown(row["dim"]),
                "stride": _shown(row["stride_ms"], " ms"),
                "source": row["source"] or "built in",
            }
            for row in rows
        ],
        right=("layers", "dim", "stride"),
    )
    emit()
    emit("also called")
    table(
        [{"alias": alias, "upstream": info.name} for alias, info in BY_ALIAS.items()],
    )


def _own(context: typer.Context) -> list[Mapping[str, Any]]:
    """The workspace's own; only their code could tell their shapes, and nothing is run here."""
    from orchestra.config.upstream_names import own_upstreams

    try:
        found = own_upstreams(workspace_of(context).root)
    except NotFoundError:  # known ones are listed anywhere
        return []
    unknown = dict.fromkeys(("layers", "dim", "stride", "stride_ms"))
    return [
        {"name": name, "kind": "file", "family": "own", "source": file, **unknown, "aliases": []}
        for name, file in found.items()
    ]


def _known() -> list[Mapping[str, Any]]:
    from orchestra.config.upstream_table import UPSTREAMS

    return [
        {
            "name": info.name,
            "kind": info.kind,
            "family": info.family,
            "source": info.source,
            "layers": info.layers,
            "dim": info.dim,
            "stride": info.stride,
            "stride_ms": info.stride_ms,
            "aliases": list(info.aliases),
        }
        for info in UPSTREAMS.values()
    ]


def _shown(number: float | None, unit: str = "") -> str:
    return "-" if number is None else f"{number:g}{unit}"
