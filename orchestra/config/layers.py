"""Layers of a config and how they are laid over each other, with the origin of each value.

Pure functions on plain dictionaries; types and interpolation come later.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestra.config.problems import KeyPath, dotted


@dataclass(frozen=True)
class Layer:
    """One file, or all values of one kind of flag."""

    name: str
    document: dict[str, Any]
    places: Mapping[KeyPath, str]
    """`file:line` or flag of keys and tables; those missing lie where their table does."""

    def place(self, path: KeyPath) -> str:
        """Where `path` stands in this layer."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name


@dataclass(frozen=True)
class Setting:
    """One value that one layer gave to one key."""

    key: str
    value: Any
    origin: str


@dataclass
class Merged:
    """The layers in one document."""

    document: dict[str, Any] = field(default_factory=dict)
    leaves: dict[KeyPath, tuple[Layer, ...]] = field(default_factory=dict)
    """The layers that wrote each leaf (anything but a table); the last one's value stands."""
    tables: dict[KeyPath, tuple[Layer, ...]] = field(default_factory=dict)
    """The layers that wrote into each table."""
    replaced: dict[KeyPath, str] = field(default_factory=dict)
    """Tables whose `kind` changed, and where it did."""
    history: list[Setting] = field(default_factory=list)
    """All leaves of all layers, in order."""

    def places(self, path: KeyPath) -> list[str]:
        """Where `path` is written, last what stands; else where the table around it is."""
        for end in range(len(path), 0, -1):
            layers = self.leaves.get(path[:end]) or self.tables.get(path[:end])
            if layers:
                return list(dict.fromkeys(layer.place(path) for layer in layers))
        return []

    def place(self, path: KeyPath) -> str:
        """The last of `places`, empty if there is none."""
        return (self.places(path) or [""])[-1]

    def origin(self, path: KeyPath) -> str | None:
        """Where the value of a leaf was written, None if no layer wrote it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.leaves:
                return self.leaves[path[:end]][-1].place(path)
        return None


def merge(layers: Iterable[Layer]) -> Merged:
    """Lay each layer over those before it.

    Tables merge deeply, anything else replaces. A table that states another `kind` than the one
    below it replaces it as a whole: the other kind's keys would mean nothing.
    """
    merged = Merged()
    for layer in layers:
        _lay(merged, merged.document, layer.document, (), layer)
    return merged


def flatten(document: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The leaves of a document; an empty table has none."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flatten(value, (*path, key))
        else:
            yield (*path, key), value


def _lay(
    merged: Merged, low: dict[str, Any], high: dict[str, Any], path: KeyPath, layer: Layer
) -> None:
    for key, value in high.items():
        here = (*path, key)
        old = low.get(key)
        if not isinstance(value, dict):
            writers = merged.leaves.get(here, ())
            _forget(merged, here)
            low[key] = copy.deepcopy(value)
            merged.leaves[here] = (*writers, layer)
            merged.history.append(Setting(dotted(here), value, layer.place(here)))
            continue
        if not isinstance(old, dict) or _changes_kind(old, value):
            _forget(merged, here)
            if isinstance(old, dict):
                merged.replaced[here] = layer.place((*here, "kind"))
            old = low[key] = {}
        merged.tables[here] = (*merged.tables.get(here, ()), layer)
        _lay(merged, old, value, here, layer)


def _changes_kind(low: dict[str, Any], high: dict[str, Any]) -> bool:
    return "kind" in low and "kind" in high and bool(low["kind"] != high["kind"])


def _forget(merged: Merged, path: KeyPath) -> None:
    """Drop who wrote `path` and what lay below it."""
    writers: tuple[dict[KeyPath, Any], ...] = (merged.leaves, merged.tables)
    for known in writers:
        for other in [other for other in known if other[: len(path)] == path]:
            del known[other]
