"""What holds for a user or a workspace whatever is run: notices, a limit on GPUs, local models.

    $XDG_CONFIG_HOME/orchestra/settings.toml   [notify] command = "curl -d @- https://..."
    WORKSPACE/orchestra.toml                   [gpus] limit = 4, ids = ["0", "1", "GPU-..."]
                                               [upstreams] "ORG/MODEL" = "/models/mine"

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
    """Which GPUs the runs of a workspace may have, and which models it has folders for."""

    gpu_limit: int | None = None
    """At most so many at once; None: no limit."""
    gpu_ids: tuple[str, ...] = ()
    """Only these, by index or UUID; empty: any."""
    upstreams: tuple[tuple[str, Path], ...] = ()
    """Hub ids and the absolute folders that stand in their place."""


def user_settings() -> UserSettings:
    """This user's settings; the defaults where there is no file (UsageError if it is wrong)."""
    path = user_settings_path()
    notify = _tables(path, {"notify": {"command": str}})["notify"]
    try:
        return UserSettings(tuple(shlex.split(notify.get("command", ""))))
    except ValueError as error:
        raise UsageError(f"{path}: notify.command can't be split into words: {error}") from error


def workspace_settings(root: Path) -> WorkspaceSettings:
    """The settings of the workspace at `root` (UsageError if the file is wrong)."""
    path = root / "orchestra.toml"
    tables = _tables(path, {"gpus": {"limit": int, "ids": list}, "upstreams": None})
    gpus = tables["gpus"]
    limit, ids = gpus.get("limit"), gpus.get("ids", [])
    if limit is not None and limit < 0:
        raise UsageError(f"{path}: gpus.limit = {limit}: give 0 or more")
    if not all(isinstance(word, str) for word in ids):
        raise UsageError(f'{path}: gpus.ids: give texts, such as ["0", "1"]')
    upstreams = [_alias(path, root, *item) for item in tables["upstreams"].items()]
    return WorkspaceSettings(limit, tuple(ids), tuple(upstreams))


def user_settings_path() -> Path:
    """Where this user's settings lie, there or not."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "orchestra" / "settings.toml"


def _alias(path: Path, root: Path, name: str, folder: Any) -> tuple[str, Path]:
    if name.count("/") != 1 or not isinstance(folder, str):
        raise UsageError(
            f"{path}: upstreams.{name!r} = {folder!r}: give a hub id and the folder that stands in "
            'its place: "ORG/MODEL" = "/models/mine"'
        )
    found = (root / Path(folder).expanduser()).absolute()
    if not (found / "config.json").is_file():
        raise UsageError(f"{path}: upstreams.{name!r}: {found} is no model: it has no config.json")
    return name, found


def _tables(path: Path, known: dict[str, dict[str, type] | None]) -> dict[str, dict[str, Any]]:
    """The tables that the file may have; each key of its type, or any keys where None is given."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    for name, table in document.items():
        if name not in known or not isinstance(table, dict):
            words = " and ".join(f"[{each}]" for each in known)
            only = f"the tables {words} are" if len(known) > 1 else f"a table {words} is"
            raise UsageError(f"{path}: {name!r}: only {only} known here")
        for key, value in table.items():
            _check_key(path, name, key, value, known[name])
    return {name: document.get(name, {}) for name in known}


def _check_key(path: Path, table: str, key: str, value: Any, types: dict[str, type] | None) -> None:
    if types is None:
        return
    if key not in types:
        raise UsageError(f"{path}: unknown key {table}.{key}: keys are {', '.join(types)}")
    if not isinstance(value, types[key]) or isinstance(value, bool):
        raise UsageError(f"{path}: {table}.{key} = {value!r}: give {_WORDS[types[key]]}")
