"""A local folder in the place of a model of the hub, or of a part of one: by an alias of
orchestra.toml, or by its name.

Never silently: what stands for what is in the frozen config, and in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.config.schema import HuggingFaceConfig, UpstreamConfig, UpstreamParts
from orchestra.config.upstream_names import is_hub_id

ORIGIN = "orchestra.toml [upstreams]"


def shadowed(
    given: UpstreamConfig, frozen: UpstreamConfig, aliases: Sequence[tuple[str, Path]]
) -> tuple[UpstreamConfig, list[str], list[str]]:
    """`frozen` with the folders that stand for its hub ids, what to say of them, and the keys that
    an alias has set.

    Args:
        given: as the user and the presets have it; `frozen`: the same with absolute paths.
        aliases: hub ids and folders.
    """
    if not isinstance(frozen, HuggingFaceConfig) or not isinstance(given, HuggingFaceConfig):
        return frozen, [], []
    name = given.shadows or given.source  # `--upstream` has looked for a folder already
    whole = _StandIn.of("upstream", name, frozen.source, frozen.revision, aliases)
    found = {"source": whole}
    if given.parts is not None and frozen.parts is not None:
        before, parts = given.parts.model_dump(), frozen.parts.model_dump(exclude_none=True)
        for part, source in parts.items():
            key = f"parts.{part}"
            found[key] = _StandIn.of(f"upstream.{key}", before[part], source, None, aliases)
        parts = {part: found[f"parts.{part}"].source for part in parts}
        frozen = frozen.model_copy(update={"parts": UpstreamParts(**parts)})
    update = {"source": whole.source, "shadows": name if whole.is_one else frozen.shadows}
    keys = [f"upstream.{key}" for key, each in found.items() if each.by_alias]
    if whole.by_alias:
        keys.append("upstream.shadows")
    notes = [each.said for each in found.values() if each.said]
    return frozen.model_copy(update=update), notes, keys


@dataclass(frozen=True)
class _StandIn:
    """What is used where a source was named, and the sentence about it."""

    source: str
    said: str = ""
    is_one: bool = False
    by_alias: bool = False

    @classmethod
    def of(
        cls,
        key: str,
        name: str,
        source: str,
        revision: str | None,
        aliases: Sequence[tuple[str, Path]],
    ) -> _StandIn:
        """Of the source that was called `name`; `source`: the same, absolute if it is a path."""
        if source != name:
            if not is_hub_id(name) or not Path(source).is_dir():
                return cls(source)
            said = f"{key} {name!r} is {source} (a folder of that name), not the hub's model"
            return cls(source, said, is_one=True)
        repo, _, named = name.partition("@")
        folder, revision = dict(aliases).get(repo), revision or named
        if folder is None:
            return cls(source)
        if revision:
            return cls(
                source,
                f"{ORIGIN} has {folder} for {repo!r}; it is not used, because the config asks for "
                f"the hub's revision {revision}",
            )
        said = f"{key} {name!r} is {folder} ({ORIGIN}), not the hub's model"
        return cls(str(folder), said, is_one=True, by_alias=True)
