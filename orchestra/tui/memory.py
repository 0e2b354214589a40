"""What the monitor remembers per workspace: filter, order, columns, tab, theme.

A small file in the user's state folder, never in the workspace: looking on leaves no traces there.
A file that is missing, damaged or of another version is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import write_json
from orchestra.workspace import Workspace

_VERSION = 1


@dataclass(frozen=True)
class Layout:
    """How the user left the screen."""

    query: str = ""
    sort: str = ""
    columns: tuple[str, ...] = ()
    """Keys; empty: the default."""
    tab: str = ""
    theme: str = ""


def state_folder() -> Path:
    """Where the monitor keeps what is this user's, there or not."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "orchestra" / "tui"


def layout_path(workspace: Workspace) -> Path:
    """Where the workspace's layout is kept, there or not."""
    name = hashlib.sha256(os.fsencode(workspace.runs.path)).hexdigest()[:16]
    return state_folder() / f"{name}.json"


def load_layout(workspace: Workspace) -> Layout:
    """As it was left, or the default."""
    try:
        document = json.loads(layout_path(workspace).read_text(encoding="utf-8"))
        if document.pop("version") != _VERSION:
            return Layout()
        columns = tuple(str(key) for key in document.pop("columns"))
        texts = {name: str(document[name]) for name in _texts()}
        return Layout(columns=columns, **texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Layout()


def save_layout(workspace: Workspace, layout: Layout) -> None:
    """Keep it (OrchestraError: it can't be written)."""
    path = layout_path(workspace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"version": _VERSION, **asdict(layout)})
    except OSError as error:
        raise OrchestraError(f"cannot write {path}: {error.strerror}") from error


def _texts() -> list[str]:
    return [field.name for field in fields(Layout) if field.name != "columns"]
