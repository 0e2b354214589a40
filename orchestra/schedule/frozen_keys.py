"""A config key by key, each value with where it came from. Pure, apart from `read_keys`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestra.schedule.compare import flat
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job

DEFAULT = "default"


@dataclass(frozen=True)
class FrozenKey:
    """One value."""

    key: str
    """Dotted."""
    value: Any
    origin: str
    """`default`, a file or a flag; empty: not on record."""


def keys_of(document: Mapping[str, Any], origins: Mapping[str, Any]) -> tuple[FrozenKey, ...]:
    """In the document's order."""
    return tuple(
        FrozenKey(key, value, str(origins.get(key, ""))) for key, value in flat(document).items()
    )


def read_keys(job: Job) -> tuple[FrozenKey, ...]:
    """Of a job's frozen config.

    Raises:
        OrchestraError: it can't be read.
    """
    try:
        document = tomllib.loads(job.config.read_text(encoding="utf-8"))
    except OSError as error:
        raise OrchestraError(f"cannot read {job.config}: {error.strerror}") from error
    except ValueError as error:
        raise OrchestraError(f"{job.config} is not a frozen config: {error}") from error
    try:
        origins = read_json(job.origins)
    except (FileNotFoundError, OrchestraError):  # the values are worth showing all the same
        origins = {}
    return keys_of(document, origins if isinstance(origins, dict) else {})
