"""A local folder in the place of a model of the hub: by an alias of orchestra.toml, or by its name.

Never silently: what stands for what is in the frozen config, and in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestra.config.schema import HuggingFaceConfig, UpstreamConfig
from orchestra.config.upstream_names import is_hub_id

ORIGIN = "orchestra.toml [upstreams]"


def shadowed(
    given: UpstreamConfig, frozen: UpstreamConfig, aliases: Sequence[tuple[str, Path]]
) -> tuple[UpstreamConfig, list[str]]:
    """`frozen` with the folder that stands for its hub id, and what to say of it.

    Args:
        given: as the user and the presets have it; `frozen`: the same with absolute paths.
        aliases: hub ids and folders.
    """
    if not isinstance(frozen, HuggingFaceConfig) or not isinstance(given, HuggingFaceConfig):
        return frozen, []
    if frozen.source != given.source and is_hub_id(given.source):
        frozen = frozen.model_copy(update={"shadows": given.source})
    folder = dict(aliases).get(frozen.source)
    if folder is None:
        told = frozen.shadows is not None
        return frozen, [_sentence(frozen, "a folder of that name")] if told else []
    if frozen.revision is not None:
        return frozen, [
            f"{ORIGIN} has {folder} for {frozen.source!r}; it is not used, because the config asks "
            f"for the hub's revision {frozen.revision}"
        ]
    update = {"source": str(folder), "shadows": frozen.source}
    frozen = frozen.model_copy(update=update)
    return frozen, [_sentence(frozen, ORIGIN)]


def _sentence(upstream: HuggingFaceConfig, why: str) -> str:
    return f"upstream {upstream.shadows!r} is {upstream.source} ({why}), not the hub's model"
