"""The three kinds of places that files come from: the hub, the web, this machine.

Each gives whole, verified files by the names they have in a folder of save_pretrained; a place that
is one single file gives that file under the first name it is asked for.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestra.fetch import hub
from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.download import Download, Expected, Received, Version
from orchestra.fetch.hashing import git_hash_of, remembered_sha256
from orchestra.fetch.lock import only_one
from orchestra.fetch.offline import hub_endpoint, hub_token, offline_switch, refuse_offline
from orchestra.fetch.web import MissingError, Web
from orchestra.wire.errors import DataError, NotFoundError, OrchestraError
from orchestra.wire.sources import HubSource, LocalSource, Source, UrlSource

_ITEM = ("sha256", "size", "etag", "modified")
"""What is remembered of a URL; None where it has no such file."""

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


def open_place(source: Source, cache: Cache, web: Web, *, newest: bool, weights: bool) -> Place:
    """The place that `source` names; the hub is asked what a revision means (see `hub.resolve`)."""
    if isinstance(source, LocalSource):
        return LocalPlace(source, cache)
    if isinstance(source, UrlSource):
        return UrlPlace(source, cache, web, newest=newest)
    listing, note = hub.resolve(source, cache, web, newest=newest, weights=weights)
    return HubPlace(source, listing, (note,) if note else (), cache, web)


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


class UrlPlace(Place):
    """A folder on a web server, or one file.

    What a URL gave is kept with its hash. A URL without a hash (`newest`) is asked whether it gives
    something else by now.
    """

    def __init__(self, source: UrlSource, cache: Cache, web: Web, *, newest: bool) -> None:
        self._source = source
        self._cache = cache
        self._web = web
        self._newest = newest
        self._asked: dict[str, File] = {}
        is_model = source.is_folder
        self._command = f"`orchestra fetch {source}`" if is_model else "the same command"

    def get(self, name: str, flaw: Flaw) -> File | None:
        """See `Place.get`; each file is asked for once."""
        source = self._source.file(name) if self._source.is_folder else self._source
        if name not in self._asked:
            found = self._got(source, flaw)
            if found is None:
                return None
            size, sha256 = found
            pinned = replace(source, sha256=sha256)
            self._asked[name] = File(name, self._cache.blob(sha256), size, sha256, str(pinned))
        return self._asked[name]

    def missing_bytes(self, name: str) -> int | None:
        """Known only of what is there."""
        source = self._source.file(name) if self._source.is_folder else self._source
        return 0 if name in self._asked or self._kept(source) is not None else None

    def _got(self, source: UrlSource, flaw: Flaw) -> tuple[int, str] | None:
        """Size and hash of the file; None if the server has none."""
        kept = self._kept(source)
        if kept is not None and (source.sha256 is not None or not self._newest):
            return kept
        known_missing = kept is None and self._was_missing(source)
        if known_missing and not self._newest:
            return None
        try:
            refuse_offline(source.url, self._command)
            return self._ask(source, flaw)
        except MissingError:
            self._cache.write("items", key_of(source.url), _missing_item(source))
            return None
        except NotFoundError:
            if kept is None and not known_missing:
                raise
            why = offline_switch() or "it can't be reached"
            self.notes += (f"{source.url}: {why}; what it gave last time is used",)
            return kept

    def _ask(self, source: UrlSource, flaw: Flaw) -> tuple[int, str]:
        key = key_of(source.url)
        before = self._cache.read("items", key, *_ITEM)
        with only_one(self._cache.lock(key), source.url, self._web.say) as waited:
            kept = self._kept(source)
            # Another process has asked while we waited.
            if kept and (
                source.sha256 or (waited and self._cache.read("items", key, *_ITEM) != before)
            ):
                return kept
            download = Download(
                self._web,
                self._cache,
                key,
                source.url,
                Expected(sha256=source.sha256),
                flaw=flaw,
            )
            received = download.run(self._version(key) if kept else None)
            if received is None:
                assert kept is not None
                return kept
            self._cache.write("items", key, _item(source, received))
            return received.size, received.sha256

    def _kept(self, source: UrlSource) -> tuple[int, str] | None:
        """Size and hash of what is there of it."""
        if source.sha256 is not None:
            return _blob(self._cache, source.sha256)
        item = self._cache.read("items", key_of(source.url), *_ITEM)
        if item is None or item["sha256"] is None:
            return None
        return _blob(self._cache, item["sha256"], item["size"])

    def _was_missing(self, source: UrlSource) -> bool:
        item = self._cache.read("items", key_of(source.url), *_ITEM)
        return item is not None and item["sha256"] is None

    def _version(self, key: str) -> Version | None:
        item = self._cache.read("items", key, *_ITEM)
        return Version(item["etag"], item["modified"]) if item is not None else None


class HubPlace(Place):
    """One commit of a model of the hub."""

    def __init__(
        self,
        source: HubSource,
        listing: hub.Listing,
        notes: tuple[str, ...],
        cache: Cache,
        web: Web,
    ) -> None:
        self.listing = listing
        self.notes = notes
        self._source = replace(source, revision=listing.commit)
        self._cache = cache
        self._web = web

    def get(self, name: str, flaw: Flaw) -> File | None:
        """See `Place.get`."""
        known = self.listing.files.get(name)
        if known is None:
            return None
        there = self._there(name, known)
        if there is None:
            there = self._fetched(name, known, flaw)
        path, sha256 = there
        return File(name, path, path.stat().st_size, sha256, f"{self._source}/{name}")

    def missing_bytes(self, name: str) -> int | None:
        """By the hub's own listing."""
        known = self.listing.files.get(name)
        return 0 if known is None or self._there(name, known) is not None else known.size

    def _there(self, name: str, known: hub.HubFile) -> tuple[Path, str] | None:
        """Path and hash of the file, in our cache or in the hub client's own."""
        sha256 = known.sha256 or self._sha256_seen(name)
        if sha256 is not None and _blob(self._cache, sha256, known.size) is not None:
            return self._cache.blob(sha256), sha256
        path = hub.client_copy(self.listing, name)
        if path is None:
            return None
        digest = remembered_sha256(path, self._cache)
        is_right = digest == known.sha256 if known.sha256 else True
        if known.git_hash is not None:
            is_right = git_hash_of(path) == known.git_hash
        if not is_right:
            self._web.say(f"{path} is damaged and is not used")
            return None
        return path, digest

    def _fetched(self, name: str, known: hub.HubFile, flaw: Flaw) -> tuple[Path, str]:
        what = f"{name} of {self._source.repo}"
        refuse_offline(what, f"`orchestra fetch {self._source}`")
        key = self._key(name)
        with only_one(self._cache.lock(key), what, self._web.say):
            there = self._there(name, known)
            if there is not None:
                return there
            expected = Expected(known.size, known.sha256, known.git_hash)
            url = hub.file_url(self.listing, name)
            download = Download(
                self._web,
                self._cache,
                key,
                url,
                expected,
                token=hub_token(),
                what=what,
                flaw=flaw,
            )
            try:
                received = download.run()
            except MissingError as error:
                raise NotFoundError(f"the hub lists {what}, but has it no more") from error
            assert received is not None
            item = {"sha256": received.sha256, "size": received.size}
            self._cache.write("items", key, item)
            return received.path, received.sha256

    def _sha256_seen(self, name: str) -> str | None:
        """Of a small file, which the hub knows by git's hash alone."""
        item = self._cache.read("items", self._key(name), "sha256")
        return str(item["sha256"]) if item is not None else None

    def _key(self, name: str) -> str:
        return key_of(hub_endpoint(), self.listing.repo, self.listing.commit, name)


def _item(source: UrlSource, received: Received) -> dict[str, Any]:
    return _missing_item(source) | {
        "sha256": received.sha256,
        "size": received.size,
        "etag": received.etag,
        "modified": received.modified,
    }


def _missing_item(source: UrlSource) -> dict[str, Any]:
    found = dict.fromkeys(_ITEM)
    return {"url": source.url, "fetched_at": time.time(), **found}


def _blob(cache: Cache, sha256: str, size: int | None = None) -> tuple[int, str] | None:
    """Size and hash of a blob, if it is there as it was put there.

    A blob is verified before it gets its name; that it was changed since is told by its hash, which
    is taken again if size or time of change differ from when it was last taken.
    """
    path = cache.blob(sha256)
    try:
        found = path.stat().st_size
        if size not in (None, found) or remembered_sha256(path, cache) != sha256:
            path.unlink(missing_ok=True)
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OrchestraError(f"cannot read {path}: {error.strerror}") from error
    return found, sha256
