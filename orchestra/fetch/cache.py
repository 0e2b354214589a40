"""Where fetched files lie, and what is remembered of them.

    CACHE/blobs/<sha256>             whole, verified files; never changed
    CACHE/items/<key>.json           what a URL gave last: hash, size, ETag
    CACHE/hub/<key>.json             the files of one commit of the hub; which commit a name was
    CACHE/hashes/<key>.json          hashes of files elsewhere, by size and time of change
    CACHE/models/<key>/              one model's files side by side, as links
    CACHE/partial/<key>              what has come so far of a file, with <key>.json beside it
    CACHE/locks/<key>.lock           one per item; never removed, freed by the kernel on any death

All documents are written atomically; what can't be read counts as not there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json, write_json


def cache_folder() -> Path:
    """$ORCHESTRA_CACHE, else $XDG_CACHE_HOME/orchestra, else ~/.cache/orchestra."""
    chosen = os.environ.get("ORCHESTRA_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "orchestra"


def key_of(*parts: str) -> str:
    """A file name for what `parts` identify together."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Cache:
    """The cache at `root`; folders are made as they are needed."""

    root: Path

    def blob(self, sha256: str) -> Path:
        """The file of that content, there or not."""
        return self.root / "blobs" / sha256

    def partial(self, key: str) -> Path:
        return self._in("partial", key)

    def lock(self, key: str) -> Path:
        return self._in("locks", f"{key}.lock")

    def model(self, key: str) -> Path:
        return self.root / "models" / key

    def read(self, kind: str, key: str, *keys: str) -> dict[str, Any] | None:
        """A remembered document; None if there is none, or it lacks one of `keys`."""
        try:
            value = read_json(self.root / kind / f"{key}.json")
        except (FileNotFoundError, OrchestraError):
            return None
        is_known = isinstance(value, dict) and all(name in value for name in keys)
        return value if is_known else None

    def write(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Remember it (DiskFullError, OrchestraError)."""
        write_json(self._in(kind, f"{key}.json"), document)

    def make(self, folder: Path) -> Path:
        """`folder`, made if it is not there.

        Raises:
            OrchestraError: it can't be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder

    def _in(self, kind: str, name: str) -> Path:
        return self.make(self.root / kind) / name


def unwritable(path: Path, error: OSError) -> OrchestraError:
    """What to tell of a cache that can't be written to."""
    return OrchestraError(
        f"cannot write {path}: {error.strerror}; ORCHESTRA_CACHE chooses another folder for models"
    )
