"""Frozen configs as the registry keeps them: one JSON document each, for SQLite to filter by."""

from __future__ import annotations

import json
import tomllib


def config_document(toml: bytes) -> str | None:
    """The config in JSON; None if it is no TOML, or holds a number that JSON can't."""
    try:
        config = tomllib.loads(toml.decode())
        return json.dumps(
            config, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str
        )
    except ValueError:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        return None
