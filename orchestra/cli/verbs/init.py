"""orchestra init"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.output import emit, say


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it does not exist.")],
) -> None:
    """Make a folder a workspace: tasks/, presets/, runs/.

    What lies in runs/ stays out of git.

    \b
    Examples:
      orchestra init speech && cd speech && orchestra run example --cpu

    Built-in tasks and presets need no copy; your own of the same name take their place.
    """
    from orchestra.workspace import init_workspace

    workspace = init_workspace(folder)
    emit(str(workspace.root))
    say("now, in there: `orchestra tasks`, `orchestra presets`, `orchestra run example --cpu`")
