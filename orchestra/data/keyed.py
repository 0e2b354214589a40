"""Seeds that follow from the run's seed and a position, never from history."""

from __future__ import annotations

import hashlib


def keyed(seed: int, *key: int | str) -> int:
    """A 63-bit seed for `key`, independent of every other key's."""
    text = "/".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
