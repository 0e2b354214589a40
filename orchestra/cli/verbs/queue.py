"""orchestra queue"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, say, table
from orchestra.formats import ago

if TYPE_CHECKING:
    from orchestra.schedule.queue import Place


def queue(context: typer.Context, json: options.Json = False) -> None:
    """Show what waits, in the order of starting, and for what.

    \b
    Examples:
      orchestra queue
      orchestra queue --json | jq -r '.[] | select(.position == 1) | .id'

    Higher --priority goes first; of equals, whoever came first. Looking changes nothing.
    """
    from orchestra.schedule.queue import places

    found = places(workspace_of(context))
    if json:
        emit_json([_row(place) for place in found])
    elif not found:
        say("nothing waits")
    else:
        table([_cells(place) for place in found], right=("position", "priority"))


def _row(place: Place) -> dict[str, Any]:
    return {
        "position": place.position,
        "id": place.key.run_id,
        "evaluation": place.key.evaluation,
        "name": place.name,
        "gpus": place.demand.gpus,
        "gpu_ids": list(place.demand.gpu_ids),
        "priority": place.demand.priority,
        "after": place.demand.after or None,
        "queued_at": place.queued_at,
        "reason": place.reason,
    }


def _cells(place: Place) -> dict[str, str]:
    demand = place.demand
    ids = f" ({', '.join(demand.gpu_ids)})" if demand.gpu_ids else ""
    return {
        "position": "-" if place.position is None else str(place.position),
        "id": str(place.key),
        "name": place.name,
        "gpus": f"{demand.gpus or 'CPU'}{ids}",
        "priority": str(demand.priority),
        "queued": ago(place.queued_at),
        "reason": place.reason,
    }
