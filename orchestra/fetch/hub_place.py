"""One commit of a model of the hub as a place of files, verified by the hub's own listing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestra.fetch import hub
from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.client_cache import client_copy
from orchestra.fetch.download import Download, Expected
from orchestra.fetch.hashing import git_hash_of, remembered_sha256
from orchestra.fetch.listing import HubFile, Listing
from orchestra.fetch.lock import only_one
from orchestra.fetch.offline import hub_endpoint, hub_token, refuse_offline
from orchestra.fetch.places import File, Flaw, Place, whole_blob
from orchestra.fetch.web import MissingError, RefusedError, Web
from orchestra.wire.errors import NotFoundError
from orchestra.wire.sources import HubSource


class HubPlace(Place):
    """One commit of a model of the hub."""

    def __init__(
        self,
        source: HubSource,
        listing: Listing,
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

    def _there(self, name: str, known: HubFile) -> tuple[Path, str] | None:
        """Path and hash of the file, in our cache or in the hub client's own."""
        sha256 = known.sha256 or self._sha256_seen(name)
        if sha256 is not None and whole_blob(self._cache, sha256, known.size) is not None:
            return self._cache.blob(sha256), sha256
        path = client_copy(self.listing, name)
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

    def _fetched(self, name: str, known: HubFile, flaw: Flaw) -> tuple[Path, str]:
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
            except RefusedError as error:
                # Anybody may list a gated model.
                if error.code == hub.GATED:
                    raise NotFoundError(hub.consent(self._source.repo)) from error
                raise
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
