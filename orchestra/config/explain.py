"""Where the value of a key comes from, and the schema for editors. Reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tomli

from orchestra.config.compose import Composed
from orchestra.config.keys import Schema
from orchestra.config.layers import Setting
from orchestra.config.problems import KeyPath
from orchestra.config.schema import run_config_model
from orchestra.tasks import TaskInfo
from orchestra.wire.errors import UsageError

_REFERENCE = {"type": "string", "pattern": r"\$\{"}


@dataclass(frozen=True)
class Explanation:
    """One key (or table) of a composed config."""

    key: str
    value: Any
    """As frozen; None where the key has no value."""
    origin: str
    """Of the value that stands; empty for a table, whose keys have their own."""
    description: str
    settings: tuple[Setting, ...]
    """The default and all that layers said, lowest first; of a table: of each of its keys."""


def explain(composed: Composed, key: str) -> Explanation:
    """Which layers set `key`, and which won.

    Raises:
        UsageError: there is no such key; the message names the nearest.
    """
    path: KeyPath = tuple(key.split("."))
    document = tomli.loads(composed.toml.decode())
    model = run_config_model(composed.task.config_model())
    schema = Schema(model, document)
    if not schema.exists(path):
        raise UsageError(f"no key {key!r}: {schema.nearest(path)}")
    settings = [setting for setting in composed.history if _within(setting.key, key)]
    default = _at(Schema(model, _kinds(document)).defaults(), path)
    told = any(setting.origin == "default" for setting in settings)  # by a frozen config
    if default is not None and not isinstance(default, dict) and not told:
        settings.insert(0, Setting(key, default, "default"))
    return Explanation(
        key=key,
        value=_at(document, path),
        origin=composed.origins.get(key, ""),
        description=schema.description(path),
        settings=tuple(settings),
    )


def json_schema(task: TaskInfo) -> dict[str, Any]:
    """The JSON Schema of preset files of a task, for editors (Taplo, Even Better TOML).

    A preset is a part of a config: nothing is required, `extends` is allowed, and any value may be
    text with a reference `${a.b}`.
    """
    schema = run_config_model(task.config_model()).model_json_schema()
    partial: dict[str, Any] = _partial(schema)
    name = {"type": "string"}
    partial["properties"]["extends"] = {"anyOf": [name, {"type": "array", "items": name}]}
    return partial


def _kinds(document: dict[str, Any]) -> dict[str, Any]:
    """The tables of a document with nothing but their kinds."""
    return {
        key: _kinds(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if key == "kind" or isinstance(value, dict)
    }


def _partial(node: Any) -> Any:
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {
        key: _partial(value)
        for key, value in node.items()
        if not (key == "required" and isinstance(value, list))
    }
    if isinstance(node.get("properties"), dict):
        node["properties"] = {
            name: {"anyOf": [value, _REFERENCE]} for name, value in node["properties"].items()
        }
    return node


def _within(key: str, outer: str) -> bool:
    return key == outer or key.startswith(outer + ".")


def _at(document: Any, path: KeyPath) -> Any:
    for part in path:
        document = document.get(part) if isinstance(document, dict) else None
    return document
