"""What holds for a user or a workspace whatever is run: notices, and a limit on GPUs.

    $XDG_CONFIG_HOME/orchestra/settings.toml   [notify] command = "curl -d @- https://..."
    WORKSPACE/orchestra.toml                   [gpus] limit = 4, ids = ["0", "1", "GPU-..."]

A command to execute is the user's alone to give: no cloned workspace may bring one.
Standard library only: supervisors read this.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.wire.errors import UsageError

_WORDS = {str: "a text", int: "a whole number", list: "a list"}


@dataclass(frozen=True)
class UserSettings:
    """`notify_command`: argv of the command that gets a notice on stdin; empty: none."""

    notify_command: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkspaceSettings:
    """Which GPUs the runs of a workspace may have."""

    gpu_limit: int | None = None
    """At most so many at once; None: no limit."""
    gpu_ids: tuple[str, ...] = ()
    """Only these, by index or UUID; empty: any."""


def user_settings() -> UserSettings:
    """This user's settings; the defaults where there is no file (UsageError if it is wrong)."""
    path = user_settings_path()
    notify = _table(path, "notify", {"command": str})
    try:
        return UserSettings(tuple(shlex.split(notify.get("command", ""))))
    except ValueError as error:
        raise UsageError(f"{path}: notify.command can't be split into words: {error}") from error


def workspace_settings(root: Path) -> WorkspaceSettings:
    """The settings of the workspace at `root` (UsageError if the file is wrong)."""
    path = root / "orchestra.toml"
    gpus = _table(path, "gpus", {"limit": int, "ids": list})
    limit, ids = gpus.get("limit"), gpus.get("ids", [])
    if limit is not None and limit < 0:
        raise UsageError(f"{path}: gpus.limit = {limit}: give 0 or more")
    if not all(isinstance(word, str) for word in ids):
        raise UsageError(f'{path}: gpus.ids: give texts, such as ["0", "1"]')
    return WorkspaceSettings(limit, tuple(ids))


def user_settings_path() -> Path:
    """Where this user's settings lie, there or not."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "orchestra" / "settings.toml"


def _table(path: Path, name: str, types: dict[str, type]) -> dict[str, Any]:
    """The one table that the file may have, each key of its type."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    table = document.pop(name, {})
    unknown = next(iter(document), None)
    if unknown is not None or not isinstance(table, dict):
        raise UsageError(f"{path}: {unknown or name!r}: only a table [{name}] is known here")
    for key, value in table.items():
        if key not in types:
            raise UsageError(f"{path}: unknown key {name}.{key}: keys are {', '.join(types)}")
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise UsageError(f"{path}: {name}.{key} = {value!r}: give {_WORDS[types[key]]}")
    return table
