"""orchestra tasks"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, table
from orchestra.wire.errors import UsageError

if TYPE_CHECKING:
    from orchestra.tasks import TaskInfo


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
                    "aliases": list(task.aliases()),
                    "summary": task.summary(),
                    "folder": str(task.folder),
                    "builtin": task.builtin,
                    "shadows": str(task.shadows) if task.shadows else None,
                    "error": _error(task),
                }
                for task in found
            ]
        )
        return
    table(
        [
            {
                "task": ", ".join((task.name, *task.aliases())),
                "summary": task.summary(),
                "from": "built in" if task.builtin else str(task.folder),
                "note": "; ".join(filter(None, (_shadows(task), _error(task)))),
            }
            for task in found
        ]
    )


def _shadows(task: TaskInfo) -> str | None:
    return f"shadows {task.shadows}" if task.shadows else None


def _error(task: TaskInfo) -> str | None:
    """Why the task can't be used, as far as its config tells."""
    try:
        task.config_model()
    except UsageError as error:
        return f"can't be used: {error}"
    return None
