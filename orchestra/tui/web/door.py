"""Who may come in to `orchestra tui --web`: one-time token, cookie, Host, Origin. Pure but for the
random numbers.

Other users of the machine reach the port, and pages of the whole web do through the user's browser;
neither knows the token, which only the terminal shows.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

_SECRET_BYTES = 32
PAGE = "/"
WEBSOCKET = "/ws"


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


@dataclass(frozen=True)
class Asked:
    """What counts of a request."""

    method: str
    path: str
    host: str
    """The Host header."""
    origin: str | None
    """The Origin header; None where there is none."""
    token: str | None
    """Of the query."""
    cookies: Mapping[str, str]


@dataclass
class Door:
    """One server's. The token opens it once, for the browser that then has the cookie."""

    port: int
    token: str | None = field(default_factory=_secret)
    """None once it is spent."""
    session: str = field(default_factory=_secret, repr=False)

    @property
    def cookie(self) -> str:
        """Its name: browsers send cookies to every port of a host."""
        return f"orchestra-{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of this server. With any other, a page elsewhere has made its own name point here
        (DNS rebinding)."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Opens the door, once."""
        return f"http://{self.hosts[0]}{PAGE}?token={self.token}"

    def admit(self, asked: Asked) -> str | None:
        """Why the request is refused; None: come in. Spends the token if it came by that."""
        if asked.host not in self.hosts:
            return "this server goes by another name and port"
        if asked.method != "GET":
            return "there is nothing to write here"
        if asked.origin is not None and asked.origin != f"http://{asked.host}":
            return "the request comes from another page"
        if asked.path == WEBSOCKET and asked.origin is None:
            return "the request comes from no page"
        if _same(asked.cookies.get(self.cookie), self.session):
            return None
        if asked.path == PAGE and _same(asked.token, self.token):
            self.token = None
            return None
        return "open the URL that `orchestra tui --web` has printed; it is good for one browser"


def _same(given: str | None, right: str | None) -> bool:
    """In a time that tells nothing."""
    return None not in (given, right) and hmac.compare_digest(
        str(given).encode(), str(right).encode()
    )
