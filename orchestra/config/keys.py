"""What the typed schema says about a key: does it exist, is it text, what is its default.

Reads the models' fields only; it validates nothing.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from orchestra.config.problems import KeyPath, dotted

_Schema = tuple[Any, str]  # annotation and description


class Schema:
    """The keys of one model as `document` uses it.

    `document` tells by its `kind` keys which of several models a table has; while it does not
    say, all of them count.
    """

    def __init__(self, model: type[BaseModel], document: dict[str, Any]) -> None:
        self._model = model
        self._document = document

    def exists(self, path: KeyPath) -> bool:
        """Whether there is such a key or table."""
        return self._find(path) is not None

    def description(self, path: KeyPath) -> str:
        """What the model's docstring says about the key."""
        found = self._find(path)
        return found[1] if found else ""

    def is_text(self, path: KeyPath) -> bool:
        """Whether the key takes text and nothing else (a path, a choice of words)."""
        found = self._find(path)
        return found is not None and _is_text(found[0])

    def is_table(self, path: KeyPath) -> bool:
        """Whether the key is a table."""
        found = self._find(path)
        return found is not None and bool(_models(found[0]))

    def is_list(self, path: KeyPath) -> bool:
        """Whether the key takes a list."""
        found = self._find(path)
        return found is not None and any(
            get_origin(option) in (list, tuple) or option in (list, tuple)
            for option in _options(found[0])
        )

    def children(self, path: KeyPath) -> list[str]:
        """The keys of a table."""
        found = self._find(path)
        if found is None:
            return []
        return sorted(_fields(_chosen(found[0], self._value(path))))

    def nearest(self, path: KeyPath) -> str:
        """A hint for a key that is not there: a neighbour, its name elsewhere, or a list."""
        table, last = self._known_part(path)
        siblings = self.children(table)
        near = get_close_matches(last, siblings, n=1)
        if near:
            corrected = (*table, near[0], *path[len(table) + 1 :])
            best = corrected if self.exists(corrected) else corrected[: len(table) + 1]
            return f"did you mean {dotted(best)}?"
        elsewhere = {str(key[-1]): key for key in self._all()}
        near = get_close_matches(str(path[-1]), elsewhere, n=1, cutoff=0.8)
        if near:
            return f"did you mean {dotted(elsewhere[near[0]])}?"
        if not siblings:
            return f"{dotted(table)} is not a table"
        value = self._value(table)
        kind = value.get("kind") if isinstance(value, dict) else None
        of_kind = f" of kind {kind!r}" if kind else ""
        where = f"{dotted(table)}{of_kind} has" if table else "there are"
        return f"{where} {', '.join(siblings)}"

    def defaults(self) -> dict[str, Any]:
        """The values, as JSON has them, of the keys that the document leaves to the model."""
        return _defaults([self._model], self._document)

    def completed(self) -> dict[str, Any]:
        """The document with what goes without saying.

        A table without `kind` has that of the key's default. A required table is there, if empty:
        then it is its required keys that are missing.
        """
        return _completed(self._model, self._document)

    def _find(self, path: KeyPath) -> _Schema | None:
        found: _Schema = (self._model, "")
        current: Any = self._document
        for part in path:
            inner = _inner(found[0], part, current)
            if inner is None:
                return None
            found = inner
            current = current.get(part) if isinstance(current, dict) else None
        return found

    def _value(self, path: KeyPath) -> Any:
        current: Any = self._document
        for part in path:
            current = current.get(part) if isinstance(current, dict) else None
        return current

    def _known_part(self, path: KeyPath) -> tuple[KeyPath, str]:
        """The longest existing table of `path` and the first part that it does not have."""
        end = len(path) - 1
        while end and not self.exists(path[:end]):
            end -= 1
        return path[:end], str(path[end])

    def _all(self, path: KeyPath = ()) -> Iterator[KeyPath]:
        for name in self.children(path):
            here = (*path, name)
            yield here
            if self.is_table(here):
                yield from self._all(here)


def _inner(annotation: Any, part: str | int, current: Any) -> _Schema | None:
    """The schema of key or element `part` of what `annotation` allows."""
    models = _models(annotation)
    if models and isinstance(part, str):
        return _field_of(_chosen(annotation, current), part)
    for option in _options(annotation):
        arguments = get_args(option)
        if isinstance(part, str) and get_origin(option) is dict:
            return arguments[1], ""
        if isinstance(part, int) and get_origin(option) in (list, tuple) and arguments:
            return arguments[0], ""
    return None


def _field_of(models: list[type[BaseModel]], name: str) -> _Schema | None:
    """The field called `name`; where several models have it, it takes what any of them does."""
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    if not fields:
        return None
    annotations = tuple(field.annotation for field in fields)
    return Union[annotations], fields[0].description or ""  # noqa: UP007  (not known statically)


def _options(annotation: Any) -> list[Any]:
    """The alternatives of a union, without `Annotated` and None."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return [] if annotation is type(None) else [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [
        option
        for option in _options(annotation)
        if isinstance(option, type) and issubclass(option, BaseModel)
    ]


def _chosen(annotation: Any, value: Any) -> list[type[BaseModel]]:
    """The models that a table `value` may have, by its `kind` where it says one they know."""
    models = _models(annotation)
    kind = value.get("kind") if isinstance(value, dict) else None
    named = [
        model
        for model in models
        if "kind" in model.model_fields and kind in get_args(model.model_fields["kind"].annotation)
    ]
    return named or models


def _fields(models: list[type[BaseModel]]) -> dict[str, FieldInfo]:
    return {name: field for model in models for name, field in model.model_fields.items()}


def _is_text(annotation: Any) -> bool:
    def text(option: Any) -> bool:
        if get_origin(option) is Literal:
            return all(isinstance(word, str) for word in get_args(option))
        if not isinstance(option, type):
            return False
        if issubclass(option, Enum):
            return all(isinstance(member.value, str) for member in option)
        return issubclass(option, str | Path)

    options = _options(annotation)
    return bool(options) and all(text(option) for option in options)


def _defaults(models: list[type[BaseModel]], document: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, field in _fields(models).items():
        given = document.get(name)
        chosen = _chosen(field.annotation, given)
        if isinstance(given, dict) and chosen:
            found[name] = _defaults(chosen[:1], given)
        elif not field.is_required():
            value = field.get_default(call_default_factory=True, validated_data={})
            if value is not None and value is not PydanticUndefined:
                found[name] = to_jsonable_python(value, exclude_none=True)
    return found


def _completed(model: type[BaseModel], document: dict[str, Any]) -> dict[str, Any]:
    done = dict(document)
    for name, field in model.model_fields.items():
        missing_table = field.is_required() and len(_models(field.annotation)) == 1
        given = document.get(name, {} if missing_table else None)
        if not isinstance(given, dict):
            continue
        default = getattr(field.default, "kind", None)
        if "kind" not in given and default is not None:
            given = {"kind": default, **given}
        chosen = _chosen(field.annotation, given)
        done[name] = _completed(chosen[0], given) if len(chosen) == 1 else given
    return done
