"""A folder that a program fills: locked while it works, refused when it holds anything else.

The marker is a JSON file that says who made the folder and from what; "complete" comes last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.wire.errors import ConflictError, UsageError
from orchestra.wire.files import read_json, write_json

PARTIAL_PREFIX = ".partial-"
"""What is not finished carries this prefix and is removed when the folder is next owned."""


@dataclass(frozen=True)
class OwnedFolder:
    """The folder while its lock is held."""

    root: Path
    marker: Path
    identity: Mapping[str, Any]

    def mark(self, *, complete: bool) -> None:
        """Say that the content is (not) whole."""
        write_json(self.marker, {**self.identity, "complete": complete})

    def is_complete(self) -> bool:
        """True if the last `mark` said so."""
        return self.marker.exists() and not is_unfinished(self.root, self.marker.name)

    def remove_partial(self) -> None:
        """Remove everything that was not finished."""
        for partial in self.root.glob(f"{PARTIAL_PREFIX}*"):
            shutil.rmtree(partial)


@contextlib.contextmanager
def own_folder(root: Path, marker: str, identity: Mapping[str, Any]) -> Iterator[OwnedFolder]:
    """Create or take over `root`; unfinished parts are removed before and after.

    Raises:
        ConflictError: it holds something of another identity, or another process fills it.
        UsageError: it can't be made or written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot write to {root}: {error.strerror}") from None
    try:
        if not os.access(root, os.W_OK):
            raise UsageError(f"cannot write to {root}: no permission")
        _lock(fd, root)
        folder = OwnedFolder(root, root / marker, identity)
        _refuse_foreign(folder)
        folder.remove_partial()
        try:
            yield folder
        finally:
            folder.remove_partial()
    finally:
        os.close(fd)


def _lock(fd: int, root: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(f"{root}: another process is writing to it; wait for it") from None


def _refuse_foreign(folder: OwnedFolder) -> None:
    try:
        marker = read_json(folder.marker)
    except FileNotFoundError:
        inside = sorted(path.name for path in folder.root.iterdir())
        if inside:
            raise ConflictError(
                f"{folder.root} already holds {inside[0]!r}, which this program did not make: "
                "choose an empty or new folder"
            ) from None
        return
    for key, value in folder.identity.items():
        if marker.get(key) != value:
            raise ConflictError(
                f"{folder.root} was made with another {key} ({marker.get(key)!r}, now {value!r}): "
                "choose another folder, or remove this one"
            )


def is_unfinished(root: Path, marker: str) -> bool:
    """True if a program began to fill `root` and has not ended."""
    try:
        return not read_json(root / marker).get("complete", False)
    except FileNotFoundError:
        return False
