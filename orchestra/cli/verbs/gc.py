"""orchestra gc"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit, emit_json, say


def gc(
    context: typer.Context,
    features: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS", min=0, help="Also cached features not used for so long; 0: all."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Remove snapshots and git references that no run needs.
    Leftovers of crashes go too.

    \b
    Examples:
      orchestra gc
      orchestra gc --features 30
      orchestra gc --json

    Runs are never touched: `orchestra rm` deletes those. Features of a run at work are computed
    again where it misses them. They lie in runs/.features and in each `cache.folder` of a run.
    """
    from dataclasses import asdict

    from orchestra.formats import size
    from orchestra.schedule.remove import collect, tidy_features

    workspace = workspace_of(context)
    garbage = collect(workspace)
    caches = tidy_features(workspace, features)
    for note in [*garbage.notes, *(cache.failure for cache in caches if cache.failure)]:
        say(f"note: {note}")
    if json:
        emit_json(
            {
                "folders": [str(path) for path in garbage.folders],
                "refs": list(garbage.refs),
                "features": [
                    {
                        "folder": str(cache.folder),
                        "deleted": asdict(cache.gone),
                        "left": asdict(cache.left),
                    }
                    for cache in caches
                ],
            }
        )
        return
    for path in garbage.folders:
        emit(str(path))
    say(f"{len(garbage.folders)} folders and {len(garbage.refs)} git references removed")
    for cache in caches:
        gone, left = cache.gone, cache.left
        if gone.entries or left.entries:
            say(
                f"cached features in {cache.folder}: {size(gone.bytes)} of {gone.entries} "
                f"utterances removed, {size(left.bytes)} of {left.entries} left"
            )
