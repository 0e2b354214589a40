"""The kinds of places that files come from: this machine here, the hub and the web beside it.

Each gives whole, verified files by the names they have in a folder of save_pretrained; a place that
is one single file gives that file under the first name it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestra.fetch.cache import Cache
from orchestra.fetch.hashing import remembered_sha256
from orchestra.wire.errors import DataError, NotFoundError, OrchestraError
from orchestra.wire.sources import LocalSource

Flaw = Callable[[Path], str | None]
"""Why a whole file can't be used; None if nothing speaks against it."""


@dataclass(frozen=True)
class File:
    """A whole file on this machine."""

    name: str
    path: Path
    size: int
    sha256: str
    source: str
    """What names exactly this content, as far as its place can: for the record and the config."""


class Place(ABC):
    """Where some files of a model come from."""

    notes: tuple[str, ...] = ()
    """Sentences to say aloud."""

    @abstractmethod
    def get(self, name: str, flaw: Flaw) -> File | None:
        """The file, fetched if need be; None if the place has none of that name.

        Raises:
            NotFoundError: it can't be reached.
            DataError: it is not what was promised, or has a flaw.
            DiskFullError, OrchestraError: it can't be written.
        """

    @abstractmethod
    def missing_bytes(self, name: str) -> int | None:
        """How much `get` would download: 0 if nothing, None if that is not known beforehand."""


class LocalPlace(Place):
    """A folder, or one file; used where it is."""

    def __init__(self, source: LocalSource, cache: Cache) -> None:
        if not source.path.exists():
            raise NotFoundError(
                f"no folder {source}: give a hub id, a URL or a folder of save_pretrained"
            )
        self.path = source.path
        self._cache = cache

    def get(self, name: str, flaw: Flaw) -> File | None:
        """See `Place.get`."""
        path = self.path / name if self.path.is_dir() else self.path
        if not path.is_file():
            return None
        try:
            if (wrong := flaw(path)) is not None:
                raise DataError(f"{path}: {wrong}")
            sha256 = remembered_sha256(path, self._cache)
        except OSError as error:
            raise OrchestraError(f"cannot read {path}: {error.strerror}") from error
        return File(name, path, path.stat().st_size, sha256, str(path))

    def missing_bytes(self, name: str) -> int | None:
        """Nothing."""
        return 0


def whole_blob(cache: Cache, sha256: str, size: int | None = None) -> tuple[int, str] | None:
    """Size and hash of a blob, if it is there as it was put there.

    A blob is verified before it gets its name; that it was changed since is told by its hash, which
    is taken again if size or time of change differ from when it was last taken. A damaged one stays
    until another takes its name: whoever deleted it might hit that one.

    Raises:
        OrchestraError: it can't be read.
    """
    path = cache.blob(sha256)
    try:
        found = path.stat().st_size
        if size not in (None, found) or remembered_sha256(path, cache) != sha256:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OrchestraError(f"cannot read {path}: {error.strerror}") from error
    return found, sha256
