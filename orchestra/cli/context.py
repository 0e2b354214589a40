"""What every verb shares: the two global options, found wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestra.workspace import Workspace

_GLOBAL_OPTIONS = ("--workspace", "--runs-dir")


@dataclass(frozen=True)
class Globals:
    """The global options as given."""

    workspace: Path | None
    runs_dir: Path | None


def workspace_of(context: typer.Context) -> Workspace:
    """The workspace this command works in (NotFoundError where there is none)."""
    from orchestra.workspace import find_workspace

    options: Globals = context.obj
    return find_workspace(options.workspace, options.runs_dir)


def workspace_if_any(context: typer.Context) -> Workspace | None:
    """The workspace, for what can do without one."""
    from orchestra.wire.errors import NotFoundError

    try:
        return workspace_of(context)
    except NotFoundError:
        options: Globals = context.obj
        if options.workspace is not None:  # the user says that there is one
            raise
        return None


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move global options in front of the verb, so that `orchestra ls --runs-dir D` works too."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _GLOBAL_OPTIONS:
            front += [word, *islice(words, 1)]
        elif word.startswith(tuple(f"{option}=" for option in _GLOBAL_OPTIONS)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def verb_of(arguments: Sequence[str]) -> str | None:
    """The first word that is neither a global option nor its value; None for `--help` and such."""
    words = iter(arguments)
    for word in words:
        if word in _GLOBAL_OPTIONS:
            next(words, None)
        elif word != "--" and not word.startswith(tuple(f"{each}=" for each in _GLOBAL_OPTIONS)):
            return None if word.startswith("-") else word
    return None
