"""orchestra presets"""

from __future__ import annotations

import typer

from orchestra.cli import options
from orchestra.cli.context import workspace_of
from orchestra.cli.output import emit_json, table


def presets(context: typer.Context, json: options.Json = False) -> None:
    """List the presets: the workspace's own and the built-in ones.

    \b
    Examples:
      orchestra presets
      orchestra run asr --preset asr-demo
      orchestra config show asr --preset asr-demo
    """
    from orchestra.config.presets import list_presets

    found = list_presets(workspace_of(context).root)
    if json:
        emit_json(
            [
                {
                    "name": preset.name,
                    "description": preset.description,
                    "path": str(preset.path),
                    "builtin": preset.builtin,
                    "shadows": str(preset.shadows) if preset.shadows else None,
                }
                for preset in found
            ]
        )
        return
    table(
        [
            {
                "preset": preset.name,
                "description": preset.description,
                "from": "built in" if preset.builtin else str(preset.path),
                "note": f"shadows {preset.shadows}" if preset.shadows else "",
            }
            for preset in found
        ]
    )
