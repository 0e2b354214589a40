"""Paths of a config become absolute when it is frozen: a run must not depend on a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from orchestra.config.schema import FileConfig, HuggingFaceConfig, UpstreamParts
from orchestra.config.upstream_names import local_model, relative_file
from orchestra.wire.sources import is_url

Model = TypeVar("Model", bound=BaseModel)


def absolute_paths(config: Model, workspace: Path) -> Model:
    """`config` with every path, and an upstream's local folder, absolute from `workspace`.

    A user's own upstream is the exception: its file is one of the run's snapshot, found by its
    place in the workspace (UsageError if it lies outside).
    """
    fields = type(config).model_fields
    changes = {name: _absolute(getattr(config, name), workspace) for name in fields}
    if isinstance(config, HuggingFaceConfig):
        folder = local_model(config.source, workspace)
        changes["source"] = config.source if folder is None else str(folder)
    if isinstance(config, UpstreamParts):
        changes = {name: _absolute_source(value, workspace) for name, value in changes.items()}
    if isinstance(config, FileConfig) and Path(config.source).expanduser().is_absolute():
        changes["source"] = relative_file(config.source, workspace)
    return config.model_copy(update=changes)


def _absolute_source(source: str | None, workspace: Path) -> str | None:
    """A path, if it is one: it looks like one, or is there."""
    if source is None or is_url(source):
        return source
    path = (workspace / Path(source).expanduser()).absolute()
    looks_so = source.startswith(("/", "./", "../", "~/"))
    return str(path) if looks_so or path.exists() else source


def _absolute(value: Any, workspace: Path) -> Any:
    if isinstance(value, BaseModel):
        return absolute_paths(value, workspace)
    if isinstance(value, Path):
        at_home = value.parts[:1] == ("~",)
        return (workspace / (value.expanduser() if at_home else value)).absolute()
    if isinstance(value, list | tuple):
        return type(value)(_absolute(item, workspace) for item in value)
    if isinstance(value, dict):
        return {key: _absolute(item, workspace) for key, item in value.items()}
    return value
