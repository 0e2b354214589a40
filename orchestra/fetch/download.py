"""One file from one URL: resumed, verified, and only then given its final name.

What has come lies in a partial file. A next try, of this process or another, goes on from there
with Range and If-Range; a server that ignores the one or has another version by now sends all of it
again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2

from orchestra.fetch.cache import Cache, unwritable
from orchestra.fetch.hashing import git_hash_of, remember
from orchestra.fetch.partial import Note, Partial, Version
from orchestra.fetch.retry import TransientError
from orchestra.fetch.web import Web
from orchestra.wire.errors import DataError, DiskFullError
from orchestra.wire.files import DISK_FULL, sha256_of, sync_folder

_TELL_EVERY_S = 10.0
_LONG_S = 3.0
"""A download that takes longer is told of."""
_PART = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")


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
        self._url = url
        self._expected = expected
        self._token = token
        self._what = what or url
        self._flaw = flaw
        self._partial = Partial(cache, key)
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
            raise unwritable(self._partial.path, error) from error

    def _run(self, known: Version | None) -> Received | None:
        failures, farthest = 0, self._partial.size()
        while True:
            try:
                version = self._attempt(known)
                return None if version is None else self._verified(version)
            except TransientError as error:
                size = self._partial.size()
                failures = 1 if size > farthest else failures + 1
                farthest = max(farthest, size)
                self._web.pause(self._what, failures, error)

    def _attempt(self, known: Version | None) -> Version | None:
        """One request; the partial file is as long as promised afterwards."""
        note = self._partial.note(has_hash=self._expected.has_hash)
        offset = self._partial.size() if note is not None else 0
        asked = _asked(note, offset, known)
        with self._web.get(self._url, asked, self._token) as response:
            if response.status_code == 304:
                if known is None or offset:
                    raise TransientError("status 304, which nobody has asked for")
                return None
            if response.status_code == 416:
                return self._past_the_end(offset, note)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise DataError(
                    f"{self._what}: the server compresses it although asked not to; download it "
                    "yourself and give the local path"
                )
            version = Version.of(response.headers)
            start, total = self._extent(response)
            if start not in (0, offset):
                raise TransientError(f"asked for bytes from {offset}, got them from {start}")
            if start and note is not None and _is_another(version, total, note):
                self._partial.forget()
                raise TransientError("the file has changed since the first part of it came")
            self._in_parts = start > 0
            self._check_size(total)
            self._check_room((total or 0) - start)
            if start == 0:  # before the new note, which must never be one of the old bytes
                self._partial.forget()
            self._partial.begin(version, total)
            with self._partial.path.open("r+b" if start else "wb") as file:
                file.truncate(start)
                file.seek(start)
                self._receive(response, file, start, total)
                file.flush()
                os.fsync(file.fileno())
        if total is not None and self._partial.size() != total:
            raise TransientError(f"{self._partial.size()} bytes came where {total} were promised")
        return version

    def _extent(self, response: httpx2.Response) -> tuple[int, int | None]:
        """Where the body starts in the file, and how long the file is.

        Of a part both must be said: else nobody could tell that the file is whole.
        """
        if response.status_code == 206:
            found = _PART.fullmatch(response.headers.get("Content-Range", ""))
            if found is None:
                self._partial.forget()  # the next try asks for all of it
                raise TransientError("a part came without saying which part of how many bytes")
            return int(found[1]), int(found[2])
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _receive(
        self, response: httpx2.Response, file: BinaryIO, start: int, total: int | None
    ) -> None:
        size, most = start, total if total is not None else self._expected.size
        # Without a chunk size: what has come is written before the connection drops.
        for chunk in response.iter_raw():
            file.write(chunk)
            size += len(chunk)
            if most is not None and size > most:
                self._partial.forget()
                raise DataError(f"{self._what}: more came than the {most} bytes promised")
            self._tell(size, total)

    def _tell(self, size: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._begun < _LONG_S or now - self._told < _TELL_EVERY_S:
            return
        self._told = now
        of = f" of {megabytes(total)}" if total is not None else ""
        self._web.say(f"{self._what}: {megabytes(size)}{of}")

    def _past_the_end(self, offset: int, note: Note | None) -> Version:
        """The server has no bytes after what we have: it is whole, or of another version."""
        if note is not None and offset and note.total == offset:
            return note.version
        self._partial.forget()
        raise TransientError("what had come before is of another version")

    def _verified(self, version: Version) -> Received:
        """The partial file with its final name, if it is what was promised."""
        expected, partial, size = self._expected, self._partial.path, self._partial.size()
        digest = sha256_of(partial)
        wrong = None
        if expected.size is not None and size != expected.size:
            wrong = f"{expected.size} bytes were promised, {size} came"
        elif expected.sha256 is not None and digest != expected.sha256:
            wrong = f"sha256 {expected.sha256} was promised, {digest} came"
        elif expected.git_hash is not None and git_hash_of(partial) != expected.git_hash:
            wrong = f"git's hash {expected.git_hash} was promised, another content came"
        elif (flaw := self._flaw(partial)) is not None:
            wrong = flaw
        if wrong is not None:
            self._partial.forget()
            if self._in_parts:  # of a server that can't tell versions apart: all of it, once more
                raise TransientError(wrong)
            raise DataError(f"{self._what}: {wrong}; nothing of it is kept")
        path = self._cache.blob(digest)
        self._cache.make(path.parent)
        partial.rename(path)
        sync_folder(path.parent)
        remember(path, digest, self._cache)
        self._partial.forget()
        return Received(path, size, digest, version.etag, version.modified)

    def _check_size(self, total: int | None) -> None:
        promised = self._expected.size
        if promised is not None and total is not None and total != promised:
            raise TransientError(f"the server has {total} bytes where {promised} were promised")

    def _check_room(self, needed: int) -> None:
        if shutil.disk_usage(self._partial.path.parent).free < needed:
            raise self._full(needed)

    def _full(self, needed: int | None = None) -> DiskFullError:
        more = f" ({megabytes(needed)} are missing)" if needed is not None else ""
        return DiskFullError(
            f"no room for {self._what} on the disk of {self._cache.root}{more}: make room and run "
            "the same again, it goes on from where it was; or set ORCHESTRA_CACHE to another disk"
        )


def _is_another(version: Version, total: int | None, note: Note) -> bool:
    """Whether a part belongs to another version than `note` tells of."""
    return note.version.is_another(version) or (note.total or total) != total


def _asked(note: Note | None, offset: int, known: Version | None) -> dict[str, str]:
    """The headers of a request: for what is missing, or for what is newer than `known`."""
    headers = {"Accept-Encoding": "identity"}
    if offset and note is not None:
        headers["Range"] = f"bytes={offset}-"
        if note.version.if_range is not None:
            headers["If-Range"] = note.version.if_range
    elif known is not None and known.etag is not None:
        headers["If-None-Match"] = known.etag
    elif known is not None and known.modified is not None:
        headers["If-Modified-Since"] = known.modified
    return headers


def megabytes(size: int) -> str:
    """For people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
