"""What has come so far of a file, and beside it a note of which version that is. No network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from orchestra.fetch.cache import Cache
from orchestra.wire.identity import boot_id


@dataclass(frozen=True)
class Version:
    """What tells one content of a URL from the next one."""

    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Version:
        """Of an answer; what could not be sent back to the server is left out."""
        told = (headers.get(name, "") for name in ("ETag", "Last-Modified"))
        return cls(*(value if value and value.isascii() else None for value in told))

    @property
    def if_range(self) -> str | None:
        """A validator that promises equal bytes; a weak ETag does not (RFC 9110, 13.1.5)."""
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return self.modified

    def is_another(self, newer: Version) -> bool:
        """Whether an answer that says `newer` may not be put behind bytes of this version."""
        if newer.etag is not None:  # dates may differ between the mirrors of one server
            return newer.etag != self.etag
        return newer.modified not in (None, self.modified)


@dataclass(frozen=True)
class Note:
    """Which version a partial file is of, how long that is, and since when it is written."""

    etag: str | None
    modified: str | None
    total: int | None
    boot: str

    @property
    def version(self) -> Version:
        return Version(self.etag, self.modified)


class Partial:
    """The partial file `key` of `cache`; the caller holds its lock."""

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache = cache
        self._key = key
        self.path = cache.partial(key)

    def size(self) -> int:
        """Bytes that have come; 0 if there is no such file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def note(self, *, has_hash: bool) -> Note | None:
        """The note of a file that may be gone on with.

        Without a hash that is known beforehand (`has_hash`) the server must tell versions apart,
        and the machine must not have crashed: a file may then be longer than what reached the disk.
        """
        names = [field.name for field in fields(Note)]
        found = self._cache.read("partial", self._key, *names)
        if found is None:
            return None
        note = Note(**{name: found[name] for name in names})
        if has_hash or (note.version.if_range is not None and note.boot == boot_id()):
            return note
        return None

    def begin(self, version: Version, total: int | None) -> None:
        """Bytes of this version come from now on, after those of it that are there."""
        note = asdict(Note(version.etag, version.modified, total, boot_id()))
        if note != self._cache.read("partial", self._key):
            self._cache.write("partial", self._key, note)

    def forget(self) -> None:
        """Nothing has come: no bytes, no note, and none that a kill left half written."""
        for path in self.path.parent.glob(f"*{self._key}*"):
            path.unlink(missing_ok=True)
