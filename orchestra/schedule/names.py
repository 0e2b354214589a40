"""Ids and names of runs. Pure, apart from drawing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from orchestra.wire.errors import UsageError

# Crockford's base 32 in lower case: no i, l, o, u.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# The first is a letter: an id is never taken for a number.
_LETTERS = "abcdefghjkmnpqrstvwxyz"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def draw_id() -> str:
    """A fresh run id of 8 characters; 5e11 of them, drawn from the system's randomness."""
    return secrets.choice(_LETTERS) + "".join(secrets.choice(_ALPHABET) for _ in range(7))


def default_names(task: str, upstream: str, run_id: str) -> Iterator[str]:
    """`asr-wavlm-h7k2`, then others without end, for when that is held by another run.

    What an upstream's name has beyond letters and digits becomes `-`.
    """
    short = re.sub(r"[^A-Za-z0-9._]+", "-", upstream.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    ending = run_id[:4]
    while True:
        yield f"{task}-{short or 'upstream'}-{ending}"
        ending = draw_id()[:4]


def check_name(name: str) -> str:
    """`name`, if a run may be called so (UsageError)."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: a name has 1 to 100 letters, digits, dots, hyphens or underscores "
            "and starts with a letter or a digit"
        )
    return name
