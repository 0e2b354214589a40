"""Finding and making a workspace: the folder with tasks/ and presets/, whose runs lie in runs/.

Standard library only; reads no config and starts nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.folders import RunsFolder

RUNS_DIR = "ORCHESTRA_RUNS_DIR"
"""Environment variable: a runs folder elsewhere (another disk)."""

_MARKS = ("tasks", "presets")
_GITIGNORE = """\
# Run folders, checkpoints and the registry; orchestra never snapshots them.
/runs/
# Corpora, where the built-in presets look for them.
/data/
/.demo/
"""


@dataclass(frozen=True)
class Workspace:
    """Where a user works. Both paths are absolute; `runs` need not exist yet."""

    root: Path
    runs: RunsFolder


def find_workspace(start: Path | None = None, runs_dir: Path | None = None) -> Workspace:
    """The nearest folder at or above `start` (default: here) that has tasks/ and presets/.

    Its run folders are in `runs_dir`, else in $ORCHESTRA_RUNS_DIR, else in runs/.

    Raises:
        NotFoundError: no folder on the way up is a workspace.
    """
    try:
        begin = (start or Path.cwd()).resolve()
    except FileNotFoundError:
        raise NotFoundError("the current folder was removed: go into a workspace") from None
    for folder in (begin, *begin.parents):
        if _is_workspace(folder):
            return Workspace(folder, _runs_folder(folder, runs_dir))
    raise NotFoundError(
        f"no workspace at or above {begin} (a folder with tasks/ and presets/): "
        "go into one, or make one with `orchestra init DIR`"
    )


def init_workspace(folder: Path) -> Workspace:
    """Make `folder` a workspace; what is already there stays as it is.

    Raises:
        UsageError: a file stands where a folder is needed.
        OrchestraError: the folder can't be written.
    """
    root = folder.resolve()
    try:
        for mark in _MARKS:
            (root / mark).mkdir(parents=True, exist_ok=True)
            _write_new(root / mark / ".gitkeep", "")  # git keeps no empty folders
        _write_new(root / ".gitignore", _GITIGNORE)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"cannot make a workspace: {error.filename} is a file; name another folder"
        ) from error
    except OSError as error:
        raise OrchestraError(
            f"cannot make a workspace in {root}: {error.strerror} ({error.filename})"
        ) from error
    return Workspace(root, _runs_folder(root, None))


def _is_workspace(folder: Path) -> bool:
    return all((folder / mark).is_dir() for mark in _MARKS)


def _runs_folder(root: Path, runs_dir: Path | None) -> RunsFolder:
    from_environment = os.environ.get(RUNS_DIR)
    if runs_dir is None and from_environment:
        runs_dir = Path(from_environment)
    # Absolute, but links stay: a link to a bigger disk is what the user wants to read in paths.
    return RunsFolder((runs_dir.expanduser() if runs_dir else root / "runs").absolute())


def _write_new(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text, encoding="utf-8")
