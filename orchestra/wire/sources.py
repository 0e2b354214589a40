"""What a text may name as the source of a model's files: the hub, a URL, a local path.

Both planes read it: the config composes sources, `orchestra.fetch` gets what they name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from orchestra.wire.errors import NotFoundError, UsageError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?P<repo>(?:{_PART}/)?{_PART})(?:@(?P<revision>[^\s@]+))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"sha256=([0-9a-f]{64})")

#: Query keys under which servers take a secret; a URL is recorded as it is.
_SECRET = re.compile(
    r"auth|key|pwd|(.*-)?sig(nature)?|"
    r".*(token|secret|password|passwd|credential|api[-_]?key|access[-_]?key([-_]?id)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class HubSource:
    """A model of the hub."""

    repo: str
    revision: str | None = None
    """Branch, tag, commit or refs/pr/N; None: main."""

    @property
    def is_pinned(self) -> bool:
        """Whether it can only ever mean one commit."""
        return self.revision is not None and is_commit(self.revision)

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class UrlSource:
    """A file on a web server, or a folder of files if the path ends with a slash."""

    url: str
    """Without a fragment."""
    sha256: str | None = None
    """What the file must have (given as `URL#sha256=...`)."""

    @property
    def is_folder(self) -> bool:
        return urlsplit(self.url).path.endswith("/")

    def as_folder(self) -> UrlSource:
        """The same with a slash at the end (UsageError if it has a query or a hash)."""
        if self.is_folder:
            return self
        if self.sha256 is not None or urlsplit(self.url).query:
            raise UsageError(
                f"{self} names one file: give the URL of the model's folder as upstream.source, "
                "and single files in upstream.parts"
            )
        return replace(self, url=self.url + "/")

    def file(self, name: str) -> UrlSource:
        """The file of this name in the folder."""
        return UrlSource(self.url + name)

    def __str__(self) -> str:
        return self.url if self.sha256 is None else f"{self.url}#sha256={self.sha256}"


@dataclass(frozen=True)
class LocalSource:
    """A folder or file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source = HubSource | UrlSource | LocalSource


def parse_source(text: str, revision: str | None = None) -> Source:
    """What `text` names. A path is absolute, or there; `revision` is the hub's.

    Raises:
        UsageError: a URL that can't be used, or a revision of what has none.
        NotFoundError: it is neither of the three.
    """
    if _SCHEME.match(text):
        source: Source = _parse_url(text)
    elif Path(text).is_absolute() or Path(text).is_dir():
        source = LocalSource(Path(text))
    elif found := _HUB_ID.fullmatch(text):
        return HubSource(found["repo"], revision or found["revision"])
    else:
        raise NotFoundError(f"{text!r} is neither a folder nor a hub id nor a URL")
    if revision is not None:
        raise UsageError(f"upstream.revision is of the hub alone; {text} has none")
    return source


def is_url(text: str) -> bool:
    """Whether `text` has the form SCHEME://..."""
    return _SCHEME.match(text) is not None


def without_secrets(url: str) -> str:
    """A URL as it may be shown: servers take passwords before the @, and tokens in the query."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def is_commit(revision: str) -> bool:
    """Whether it is a commit's full hash."""
    return _COMMIT.fullmatch(revision) is not None


def _parse_url(text: str) -> UrlSource:
    shown = without_secrets(text)
    try:
        parts = urlsplit(text)
        keys = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError as error:
        raise UsageError(f"{shown} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{shown}: sources are http(s) URLs, hub ids and local folders")
    if "@" in parts.netloc or any(_SECRET.fullmatch(key) for key in keys):
        raise UsageError(
            f"the URL of {shown} holds a password or token, which would be recorded with the run: "
            "download it yourself and give the local path"
        )
    sha256 = None
    if parts.fragment:
        found = _SHA256.fullmatch(parts.fragment)
        if found is None:
            raise UsageError(f"{shown}: what follows # must be sha256= and 64 hexadecimal digits")
        sha256 = found[1]
    url = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))
    return UrlSource(url, sha256)
