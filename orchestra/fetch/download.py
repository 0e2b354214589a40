"""One file from one URL: resumed, verified, and only then given its final name.

What has come lies in a partial file with a note beside it: which version of the file it is (ETag or
date) and how long that is. A next try, of this process or another, goes on from there with Range
and If-Range; a server that ignores the one or has another version by now sends all of it again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx2

from orchestra.fetch.cache import Cache, unwritable
from orchestra.fetch.hashing import git_hash_of, remember
from orchestra.fetch.retry import TransientError
from orchestra.fetch.web import Web
from orchestra.wire.errors import DataError, DiskFullError
from orchestra.wire.files import DISK_FULL, sha256_of, sync_folder
from orchestra.wire.identity import boot_id

_TELL_EVERY_S = 10.0
_LONG_S = 3.0
"""A download that takes longer is told of."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes."""

    size: int | None = None
    sha256: str | None = None
    git_hash: str | None = None

    @property
    def has_hash(self) -> bool:
        return (self.sha256 or self.git_hash) is not None


@dataclass(frozen=True)
class Received:
    """A whole file, verified as far as anything was known of it, under its final name."""

    path: Path
    size: int
    sha256: str
    etag: str | None
    modified: str | None


@dataclass(frozen=True)
class Version:
    """What tells one content of a URL from the next one."""

    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: httpx2.Response) -> Version:
        return cls(response.headers.get("ETag"), response.headers.get("Last-Modified"))

    @property
    def if_range(self) -> str | None:
        """A validator that promises equal bytes; a weak ETag does not (RFC 9110, 13.1.5)."""
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return self.modified


class Download:
    """Getting `url` as a blob of `cache`, in the partial file `key`; the caller holds its lock."""

    def __init__(
        self,
        web: Web,
        cache: Cache,
        key: str,
        url: str,
        expected: Expected,
        *,
        token: str | None = None,
        what: str = "",
        flaw: Callable[[Path], str | None] = lambda path: None,
    ) -> None:
        """`flaw`: why the whole file can't be used; then it is not kept."""
        self._web = web
        self._cache = cache
        self._key = key
        self._url = url
        self._expected = expected
        self._token = token
        self._what = what or url
        self._flaw = flaw
        self._partial = cache.partial(key)
        self._begun = self._told = time.monotonic()
        self._in_parts = False

    def run(self, known: Version | None = None) -> Received | None:
        """The file; None if the server says that `known` is still the newest version.

        Raises:
            NotFoundError: it can't be reached or may not be had.
            MissingError: there is no such file.
            DataError: what comes is not what was promised.
            DiskFullError, OrchestraError: it can't be written; what has come is kept.
        """
        try:
            return self._run(known)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise self._full() from error
            raise unwritable(self._partial, error) from error

    def _run(self, known: Version | None) -> Received | None:
        failures, farthest = 0, self._size()
        while True:
            try:
                version = self._attempt(known)
                return None if version is None else self._verified(version)
            except TransientError as error:
                size = self._size()
                failures = 1 if size > farthest else failures + 1
                farthest = max(farthest, size)
                self._web.pause(self._what, failures, error)

    def _attempt(self, known: Version | None) -> Version | None:
        """One request; the partial file is as long as promised afterwards."""
        note = self._note()
        offset = self._size() if note is not None else 0
        headers = {"Accept-Encoding": "identity"}
        if offset and note is not None:
            headers["Range"] = f"bytes={offset}-"
            if note["if_range"] is not None:
                headers["If-Range"] = note["if_range"]
        elif known is not None:
            headers |= _conditions(known)
        with self._web.get(self._url, headers, self._token) as response:
            if response.status_code == 304:
                return None
            if response.status_code == 416:
                return self._past_the_end(offset, note)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DataError(f"{self._url}: the server compresses what it must not; use another")
            version = Version.of(response)
            start, total = _extent(response)
            if start not in (0, offset):
                raise TransientError(f"asked for bytes from {offset}, got them from {start}")
            if start and note is not None and _is_another(version, total, note):
                self._forget()
                raise TransientError("the file has changed since the first part of it came")
            self._in_parts = start > 0
            self._check_size(total)
            self._check_room((total or 0) - start)
            self._write_note(version, total)
            with self._partial.open("r+b" if start else "wb") as file:
                file.truncate(start)
                file.seek(start)
                self._receive(response, file, start, total)
                file.flush()
                os.fsync(file.fileno())
        if total is not None and self._size() != total:
            raise TransientError(f"{self._size()} bytes came where {total} were promised")
        return version

    def _receive(
        self, response: httpx2.Response, file: BinaryIO, start: int, total: int | None
    ) -> None:
        size = start
        # Without a chunk size: what has come is written before the connection drops.
        for chunk in response.iter_raw():
            file.write(chunk)
            size += len(chunk)
            self._tell(size, total)

    def _tell(self, size: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._begun < _LONG_S or now - self._told < _TELL_EVERY_S:
            return
        self._told = now
        of = f" of {megabytes(total)}" if total is not None else ""
        self._web.say(f"{self._what}: {megabytes(size)}{of}")

    def _past_the_end(self, offset: int, note: dict[str, Any] | None) -> Version:
        """The server has no bytes after what we have: it is whole, or of another version."""
        if note is not None and offset and note["total"] == offset:
            return Version(note["etag"], note["modified"])
        self._forget()
        raise TransientError("what had come before is of another version")

    def _verified(self, version: Version) -> Received:
        """The partial file with its final name, if it is what was promised."""
        expected, size = self._expected, self._size()
        digest = sha256_of(self._partial)
        wrong = None
        if expected.size is not None and size != expected.size:
            wrong = f"{expected.size} bytes were promised, {size} came"
        elif expected.sha256 is not None and digest != expected.sha256:
            wrong = f"sha256 {expected.sha256} was promised, {digest} came"
        elif expected.git_hash is not None and git_hash_of(self._partial) != expected.git_hash:
            wrong = f"git's hash {expected.git_hash} was promised, another content came"
        elif (flaw := self._flaw(self._partial)) is not None:
            wrong = flaw
        if wrong is not None:
            self._forget()
            if self._in_parts:  # of a server that can't tell versions apart: all of it, once more
                raise TransientError(wrong)
            raise DataError(f"{self._what}: {wrong}; nothing of it is kept")
        path = self._cache.blob(digest)
        self._cache.make(path.parent)
        self._partial.rename(path)
        sync_folder(path.parent)
        remember(path, digest, self._cache)
        self._forget()
        return Received(path, size, digest, version.etag, version.modified)

    def _check_size(self, total: int | None) -> None:
        promised = self._expected.size
        if promised is not None and total is not None and total != promised:
            raise TransientError(f"the server has {total} bytes where {promised} were promised")

    def _check_room(self, needed: int) -> None:
        if shutil.disk_usage(self._partial.parent).free < needed:
            raise self._full(needed)

    def _full(self, needed: int | None = None) -> DiskFullError:
        more = f" ({megabytes(needed)} are missing)" if needed is not None else ""
        return DiskFullError(
            f"no room for {self._what} on the disk of {self._cache.root}{more}: make room and run "
            "the same again, it goes on from where it was; or set ORCHESTRA_CACHE to another disk"
        )

    def _size(self) -> int:
        try:
            return self._partial.stat().st_size
        except FileNotFoundError:
            return 0

    def _note(self) -> dict[str, Any] | None:
        """The note of a partial file that may be gone on with.

        After a crash of the machine a file may be longer than what had reached the disk: then only
        a hash that is known beforehand can tell.
        """
        note = self._cache.read("partial", self._key)
        if note is None or note.keys() != {"etag", "modified", "if_range", "total", "boot"}:
            return None
        if self._expected.has_hash:
            return note
        return note if note["if_range"] is not None and note["boot"] == boot_id() else None

    def _write_note(self, version: Version, total: int | None) -> None:
        note = {
            "etag": version.etag,
            "modified": version.modified,
            "if_range": version.if_range,
            "total": total,
            "boot": boot_id(),
        }
        if note != self._cache.read("partial", self._key):
            self._cache.write("partial", self._key, note)

    def _forget(self) -> None:
        self._partial.with_name(f"{self._key}.json").unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)


def _is_another(version: Version, total: int | None, note: dict[str, Any]) -> bool:
    """Whether a part belongs to another version than `note` tells of."""
    etag, length = note["etag"], note["total"]
    return bool((version.etag or etag) != etag or (total or length) != length)


def _conditions(known: Version) -> dict[str, str]:
    if known.etag is not None:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.modified} if known.modified is not None else {}


def _extent(response: httpx2.Response) -> tuple[int, int | None]:
    """Where the body starts in the file, and how long the file is."""
    if response.status_code == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = span.partition("-")[0]
        if unit != "bytes" or not start.isdecimal():
            raise TransientError("a part came without saying which")
        return int(start), int(total) if total.isdecimal() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def megabytes(size: int) -> str:
    """For people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
