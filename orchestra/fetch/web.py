"""HTTP: one GET with our own rules for redirects, and which failures are worth another try.

Redirects are followed by hand, at most ten: to http(s) only, never from https to http, and a token
goes to no origin (scheme, host, port) but the first. Proxies of the environment are used.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TypeVar

import httpx2

from orchestra.fetch.retry import Patience, TransientError
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.sources import without_secrets

Result = TypeVar("Result")

# At INFO, which ranks log, it tells each URL: those that redirects are signed with too.
logging.getLogger("httpx2").setLevel(logging.WARNING)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_MISSING = frozenset({404, 410})
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may answer in a moment."""
_REMEDY = "run the command again, or give a local folder"
_AUTHORIZATION = "Authorization"
_RATE_LIMIT = re.compile(r"\bt=(\d{1,9})")
"""Seconds until requests are counted anew (draft-ietf-httpapi-ratelimit-headers)."""


class MissingError(Exception):
    """The server has no such file."""


class RefusedError(NotFoundError):
    """The server does not give it to this user. `code`: why, as the hub calls it."""

    def __init__(self, sentence: str, code: str | None) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass
class Web:
    """The connections of one process."""

    say: Callable[[str], None]
    """Takes sentences for the user."""
    patience: Patience = field(default_factory=Patience)
    sleep: Callable[[float], None] = field(default=time.sleep)

    @cached_property
    def client(self) -> httpx2.Client:
        return self.new_client(follow_redirects=False)

    def new_client(self, *, follow_redirects: bool = True) -> httpx2.Client:
        """One that gives up on a silent server, and sends a token to no other origin.

        Raises:
            UsageError: the environment names a proxy that can't be used.
        """
        seconds = self.patience
        timeout = httpx2.Timeout(
            connect=seconds.connect_s,
            read=seconds.silence_s,
            write=seconds.silence_s,
            pool=seconds.connect_s,
        )
        try:
            return httpx2.Client(timeout=timeout, follow_redirects=follow_redirects)
        except (ValueError, ImportError) as error:
            # Its text may hold the proxy's password.
            raise UsageError(
                "a proxy of the environment can't be used: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY "
                f"are http:// or https:// addresses ({type(error).__name__})"
            ) from error

    def pause(self, what: str, failures: int, error: TransientError) -> None:
        """Wait before the next try.

        Raises:
            NotFoundError: it was the last one.
        """
        pause_s = self.patience.pause_s(failures, error)
        if pause_s is None:
            again = f" after {failures} tries" if failures > 1 else ""
            asked = error.retry_after_s
            later = f" (it asks to come back in {asked:g} s)" if asked else ""
            raise NotFoundError(f"{what} can't be reached{again}: {error}{later}; {_REMEDY}")
        self.say(f"{what}: {error}; next try in {pause_s:g} s")
        self.sleep(pause_s)

    def patiently(self, what: str, work: Callable[[], Result]) -> Result:
        """`work()`, again while it raises TransientError (NotFoundError in the end)."""
        failures = 0
        while True:
            try:
                with transient():
                    return work()
            except TransientError as error:
                failures += 1
                self.pause(what, failures, error)

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], token: str | None
    ) -> Iterator[httpx2.Response]:
        """The answer with its body not read: a status of 200, 206, 304 or 416.

        Raises:
            TransientError: worth another try.
            MissingError: there is no such file.
            OrchestraError: it may not be had, or is not where a server sent us.
        """
        sent = dict(headers)
        if token is not None:
            sent[_AUTHORIZATION] = f"Bearer {token}"
        for _ in range(_MOST_REDIRECTS + 1):
            with transient(), self.client.stream("GET", url, headers=sent) as response:
                if response.status_code not in _REDIRECTS:
                    _check_status(response, url, had_token=_AUTHORIZATION in sent)
                    yield response
                    return
                target = _redirected(url, response)
            if _origin(target) != _origin(url):
                sent.pop(_AUTHORIZATION, None)
            url = target
        raise OrchestraError(
            f"{without_secrets(url)}: more than {_MOST_REDIRECTS} redirects; give the final URL"
        )


@contextmanager
def transient() -> Iterator[None]:
    """The client's errors of the network become a TransientError."""
    try:
        yield
    except httpx2.InvalidURL as error:
        raise UsageError(f"an address that can't be used: {error}") from error
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        if isinstance(error, httpx2.UnsupportedProtocol):
            raise UsageError(f"the network can't be used: {error}") from error
        text = str(error) or type(error).__name__
        unreachable = isinstance(
            error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError
        )
        raise TransientError(" ".join(text.split()), unreachable=unreachable) from error


def _redirected(url: str, response: httpx2.Response) -> str:
    where, said = response.headers.get("Location"), without_secrets(url)
    if not where:
        raise OrchestraError(f"{said}: a redirect to nowhere (status {response.status_code})")
    target = httpx2.URL(url).join(where)
    if target.scheme not in ("http", "https"):
        raise OrchestraError(
            f"{said}: refused a redirect to {target.scheme}: (only http and https)"
        )
    if target.scheme == "http" and httpx2.URL(url).scheme == "https":
        raise OrchestraError(f"{said}: refused a redirect from https to http, {target.host}")
    return str(target)


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = httpx2.URL(url)
    return parsed.scheme, parsed.host, parsed.port or {"http": 80, "https": 443}[parsed.scheme]


def _check_status(response: httpx2.Response, url: str, *, had_token: bool) -> None:
    """`url`: of a redirect, maybe; what it holds beside the path is not for logs."""
    status, said = response.status_code, without_secrets(url)
    if status in (200, 206, 304, 416):
        return
    if status in _MISSING:
        raise MissingError(said)
    if status in BUSY:
        raise TransientError(f"status {status}", retry_after_s(response.headers))
    if status in (401, 403):
        hint = "the token in HF_TOKEN may not read it" if had_token else "it needs a login"
        raise RefusedError(
            f"{said}: the server refuses it (status {status}): {hint}; download it yourself and "
            "give the local path",
            response.headers.get("X-Error-Code"),
        )
    raise NotFoundError(f"{said}: the server answers with status {status}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause a busy server asks for: seconds, a date (RFC 9110, 10.2.3), or what the hub says
    of its rate limit."""
    value = headers.get("Retry-After", "").strip()
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    if value.isdecimal():
        return float(value)
    if not value and limit:
        return float(limit[1])
    moment, now = _moment(value), _moment(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds()) if moment is not None else None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
