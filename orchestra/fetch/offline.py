"""Whether the network may be used, and the token for the hub: the environment alone decides.

No rank under a supervisor uses it: what waits for a server does not beat, and has no token where
another shell started it. What a run needs is fetched before it is queued.
"""

from __future__ import annotations

import os

from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.job import TAG

_SWITCHES = ("ORCHESTRA_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_DEFAULT_ENDPOINT = "https://huggingface.co"


def offline_switch() -> str | None:
    """The environment variable that forbids every connection; None if there is none."""
    return next((name for name in _SWITCHES if _is_on(os.environ.get(name, ""))), None)


def refuse_offline(what: str, command: str) -> None:
    """NotFoundError if the network may not be used to get `what`, as `command` would."""
    switch = offline_switch()
    if switch is not None:
        raise NotFoundError(
            f"{what} is not in the local cache and {switch} forbids to download it: run {command} "
            "where there is a network (ORCHESTRA_CACHE says where to), or give a local folder"
        )
    if TAG in os.environ:
        raise NotFoundError(
            f"{what} is not in the local cache any more, and a rank fetches nothing: resume the "
            "run, or ask for the evaluation again, and it is fetched first"
        )


def hub_endpoint() -> str:
    """The hub's address, without a slash at the end."""
    return (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")


def hub_token() -> str | None:
    """The user's token; read where it is needed, never stored.

    Raises:
        UsageError: it can't be sent; whoever tried would say which text that was.
    """
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise UsageError("HF_TOKEN has a character that no token has: copy the token once more")
    return token or None


def _is_on(value: str) -> bool:
    return value.strip().lower() in ("1", "on", "true", "yes")
