"""orchestra upstreams"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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
      orchestra upstreams --json              # with families, aliases, folders
      orchestra run asr --upstream hubert_large_ll60k
      orchestra run asr --upstream facebook/wav2vec2-base
      orchestra run asr --upstream /models/m  # written by save_pretrained
      orchestra run asr --upstream mine       # the class in upstreams/mine.py
    """
    from orchestra.config.upstream_table import BY_ALIAS

    rows = _rows(context)
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
                "source": _source(row),
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


def _rows(context: typer.Context) -> Sequence[Mapping[str, Any]]:
    from orchestra.config.upstream_names import own_upstreams
    from orchestra.settings import workspace_settings

    try:
        root = workspace_of(context).root
    except NotFoundError:  # known ones are listed anywhere
        return _known({})
    return [*_own(own_upstreams(root)), *_known(dict(workspace_settings(root).upstreams))]


#: Of what only its code or its folder could tell: neither is looked at here.
_UNKNOWN = dict.fromkeys(("layers", "dim", "stride", "stride_ms"))


def _own(found: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    common: dict[str, Any] = {
        "kind": "file",
        "family": "own",
        **_UNKNOWN,
        "aliases": [],
        "shadowed_by": None,
    }
    return [{"name": name, "source": file, **common} for name, file in found.items()]


def _known(folders: Mapping[str, Path]) -> Sequence[Mapping[str, Any]]:
    """Those of the table; `folders` stand in the place of hub ids."""
    from orchestra.config.upstream_table import UPSTREAMS

    rows: list[dict[str, Any]] = [
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
            "shadowed_by": None,
        }
        for info in UPSTREAMS.values()
    ]
    for row in rows:
        if row["source"] in folders:
            row |= {**_UNKNOWN, "shadowed_by": str(folders[row["source"]])}
    return rows


def _source(row: Mapping[str, Any]) -> str:
    if row["shadowed_by"] is not None:
        return f"{row['shadowed_by']} in the place of {row['source']}"
    return row["source"] or "built in"


def _shown(number: float | None, unit: str = "") -> str:
    return "-" if number is None else f"{number:g}{unit}"
