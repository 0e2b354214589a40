"""A web server as a place of files: what a URL gave is kept with its hash."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.download import Download, Expected, Received
from orchestra.fetch.lock import only_one
from orchestra.fetch.offline import offline_switch, refuse_offline
from orchestra.fetch.partial import Version
from orchestra.fetch.places import File, Flaw, Place, whole_blob
from orchestra.fetch.web import MissingError, Web
from orchestra.wire.errors import NotFoundError
from orchestra.wire.sources import UrlSource

_ITEM = ("sha256", "size", "etag", "modified")
"""What is remembered of a URL; None where it has no such file."""


class UrlPlace(Place):
    """A folder on a web server, or one file.

    A URL without a hash is asked whether it gives something else by now, if `newest`.
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
            return whole_blob(self._cache, source.sha256)
        item = self._cache.read("items", key_of(source.url), *_ITEM)
        if item is None or item["sha256"] is None:
            return None
        return whole_blob(self._cache, item["sha256"], item["size"])

    def _was_missing(self, source: UrlSource) -> bool:
        item = self._cache.read("items", key_of(source.url), *_ITEM)
        return item is not None and item["sha256"] is None

    def _version(self, key: str) -> Version | None:
        item = self._cache.read("items", key, *_ITEM)
        return Version(item["etag"], item["modified"]) if item is not None else None


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
