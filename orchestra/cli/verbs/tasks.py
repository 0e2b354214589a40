"""orchestra tasks"""

from __future__ import annotations

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, table


def tasks(context: typer.Context, json: options.Json = False) -> None:
    """List the tasks: the workspace's own and the built-in ones.

    \b
    Examples:
      orchestra tasks
      orchestra tasks --json
    """
    from orchestra.tasks import discover

    found = sorted(discover(workspace_of(context).root).values(), key=lambda task: task.name)
    if json:
        emit_json(
            [
                {
                    "name": task.name,
                    "summary": task.summary(),
                    "folder": str(task.folder),
                    "builtin": task.builtin,
                    "shadows": str(task.shadows) if task.shadows else None,
                }
                for task in found
            ]
        )
        return
    table(
        [
            {
                "task": task.name,
                "summary": task.summary(),
                "from": "built in" if task.builtin else str(task.folder),
                "note": f"shadows {task.shadows}" if task.shadows else "",
            }
            for task in found
        ]
    )
