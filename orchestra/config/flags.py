"""Flags and `--set KEY=VALUE` as layers.

VALUE is TOML; bare text is taken only where the schema says text, or for a reference `${a.b}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from orchestra.config.keys import Schema
from orchestra.config.layers import Layer, merge
from orchestra.config.problems import KeyPath, Problem, dotted
from orchestra.config.read import with_upstream

SET = "--set"


@dataclass(frozen=True)
class Flag:
    """One config value given by its own flag."""

    key: str
    value: Any
    flag: str


def flag_layer(flags: Iterable[Flag]) -> Layer:
    """All flags in one layer; keys are dotted, values as JSON has them (paths become text)."""
    document: dict[str, Any] = {}
    places: dict[KeyPath, str] = {}
    for flag in flags:
        path = tuple(flag.key.split("."))
        value = str(flag.value) if isinstance(flag.value, Path) else flag.value
        _put(document, path, list(value) if isinstance(value, tuple) else value)
        places[path] = flag.flag
    return Layer("flags", document, places)


def set_layer(sets: Iterable[str], schema: Schema) -> tuple[Layer, list[Problem]]:
    """All `--set` in one layer, the last one winning, and those that can't be read."""
    layers = []
    problems = []
    places: dict[KeyPath, str] = {}
    for text in sets:
        parsed = _parse(text, schema)
        if isinstance(parsed, Problem):
            problems.append(parsed)
            continue
        path, value = parsed
        document: dict[str, Any] = {}
        _put(document, path, value)
        places[path] = SET
        layers.append(Layer(SET, document, {}))
    document = merge(layers).document
    return Layer(SET, with_upstream(document, places), places), problems


def _parse(text: str, schema: Schema) -> tuple[KeyPath, Any] | Problem:
    key, equals, value = text.partition("=")
    path = _key(key)
    if not equals or path is None:
        return Problem("", SET, f"{text!r} is not KEY=VALUE, such as optim.lr=3e-4")
    if not schema.exists(path):
        return Problem(dotted(path), SET, f"no such key; {schema.nearest(path)}")
    value = value.strip()
    parsed = _toml(value)
    if schema.is_text(path) and not isinstance(parsed, str | list | dict):
        return path, value
    if parsed is not None:
        return path, parsed
    if "${" in value:
        return path, value
    return Problem(dotted(path), SET, _not_toml(path, value, schema))


def _not_toml(path: KeyPath, value: str, schema: Schema) -> str:
    text = f"{value!r} is not a TOML value, and only a key for text takes bare text"
    if schema.is_list(path) and not value.startswith("["):
        return f"{text}; a list is written {SET} '{dotted(path)}=[\"{value}\"]'"
    if value in ("True", "False"):
        return f"{text}; TOML writes {value.lower()}"
    return text


def _key(text: str) -> KeyPath | None:
    """The parts of a dotted key, or None if it is not one."""
    try:
        document = tomli.loads(f"{text.strip()} = 0")
    except tomli.TOMLDecodeError:
        return None
    path: list[str] = []
    current: Any = document
    while isinstance(current, dict):
        if len(current) != 1:
            return None
        ((part, current),) = current.items()
        path.append(part)
    return tuple(path)


def _toml(text: str) -> Any:
    """The value, or None where `text` is not exactly one TOML value."""
    try:
        # Within braces neither a comment nor a second statement can hide behind the value.
        document = tomli.loads(f"value = {{value = {text}}}")
    except tomli.TOMLDecodeError:
        return None
    table = document["value"]
    return table["value"] if len(document) == 1 and table.keys() == {"value"} else None


def _put(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        document = document.setdefault(str(part), {})
    document[str(path[-1])] = value
