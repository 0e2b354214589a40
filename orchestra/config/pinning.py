"""What the sources of a model were found to mean, frozen into a config that is otherwise ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tomli

from orchestra.config import frozen
from orchestra.config.compose import Composed
from orchestra.config.layers import flatten
from orchestra.config.problems import dotted
from orchestra.config.schema import UpstreamParts

_ORIGIN = "fetched"


def pinned(composed: Composed, pins: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Composed:
    """`composed` with these values of `upstream.revision` and `upstream.parts`, and more notes."""
    parts = UpstreamParts(**pins["parts"]) if pins["parts"] else None
    update = {"revision": pins["revision"], "parts": parts}
    upstream = composed.config.upstream.model_copy(update=update)
    config = composed.config.model_copy(update={"upstream": upstream})
    toml = frozen.dump(config)
    before = dict(flatten(tomli.loads(composed.toml.decode())))
    after = dict(flatten(tomli.loads(toml.decode())))
    origins = {
        dotted(path): composed.origins[dotted(path)] if before.get(path) == value else _ORIGIN
        for path, value in after.items()
    }
    return replace(
        composed,
        config=config,
        toml=toml,
        sha256=frozen.sha256_of(toml),
        origins=origins,
        notes=(*composed.notes, *notes),
    )
