"""orchestra fetch"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say, table
from orchestra.formats import size
from orchestra.wire.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from orchestra.config.schema import HuggingFaceConfig


def fetch(
    context: typer.Context,
    upstream: Annotated[
        str, typer.Argument(metavar="UPSTREAM", help="Known name, hub id, URL or folder.")
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Branch, tag or commit on the hub.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Download a pretrained upstream now, for runs without network.

    \b
    Examples:
      orchestra fetch wavlm
      orchestra fetch facebook/wav2vec2-base --revision main
      orchestra fetch https://lab.org/models/mine/
      ORCHESTRA_CACHE=/scratch/models orchestra fetch xls_r_2b

    Files go to $ORCHESTRA_CACHE, else $XDG_CACHE_HOME/orchestra. What was interrupted goes on where
    it was. ORCHESTRA_OFFLINE=1 forbids every connection; HF_TOKEN is the token for the hub.
    """
    from orchestra.schedule import upstreams

    model = upstreams.fetch(_config(context, upstream, revision), say, newest=True)
    for note in model["notes"]:
        say(f"note: {note}")
    if json:
        emit_json(model)
        return
    _print(model)


def _config(context: typer.Context, upstream: str, revision: str | None) -> HuggingFaceConfig:
    """What `--upstream` and an alias of the workspace make of it."""
    from pathlib import Path

    from orchestra.config.schema import HuggingFaceConfig
    from orchestra.config.shadows import shadowed
    from orchestra.config.upstream_names import resolve_upstream
    from orchestra.settings import workspace_settings

    try:
        root = workspace_of(context).root
        aliases = workspace_settings(root).upstreams
    except NotFoundError:  # a cache is filled anywhere
        root, aliases = Path.cwd(), ()
    table = resolve_upstream(upstream, root)
    if table["kind"] != "huggingface":
        raise UsageError(f"upstream {upstream!r} has nothing to fetch")
    given = HuggingFaceConfig(**{**table, "revision": revision})
    config, notes, _ = shadowed(given, given, aliases)
    for note in notes:
        say(f"note: {note}")
    assert isinstance(config, HuggingFaceConfig)
    return config


def _print(model: dict[str, Any]) -> None:
    emit(model["folder"])
    if model["commit"]:
        emit(f"{model['source']} at commit {model['commit']}")
    table(
        [
            {
                "file": file["name"],
                "size": size(file["size"]),
                "sha256": file["sha256"],
                "source": file["source"],
            }
            for file in model["files"]
        ],
        right=("size",),
    )
