"""`${a.b}` in string values: names of other keys, nothing else; no code, no arithmetic.

A string that is one reference takes the value and its type; within other text the value becomes
text. `$${` stands for `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestra.config.problems import KeyPath, Problem, dotted

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class _Unresolved(Exception):
    """A reference that can't be followed; the text names every hop."""


class _Unknown(_Unresolved):
    """A reference to a key without a value."""


def interpolate(
    document: dict[str, Any],
    defaults: dict[str, Any],
    place: Callable[[KeyPath], str],
    *,
    complete: bool = True,
) -> tuple[dict[str, Any], list[Problem]]:
    """`document` with its references resolved, and what could not be.

    References see the document, and below it `defaults`. A key that can't be resolved is left out;
    where the document is not `complete` (a file was unreadable), unknown names are no problem.
    """
    resolver = _Resolver(document, defaults)
    problems: list[Problem] = []

    def resolve_table(table: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        done = {}
        for key, value in table.items():
            here = (*path, key)
            if isinstance(value, dict):
                done[key] = resolve_table(value, here)
                continue
            try:
                done[key] = resolver.value(value, (here,))
            except _Unresolved as error:
                if isinstance(error, _Unknown) and not complete:
                    continue
                problems.append(Problem(dotted(here), place(here), str(error)))
        return done

    return resolve_table(document, ()), problems


def escape(value: Any) -> Any:
    """`value` such that interpolation gives it back unchanged."""
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


class _Resolver:
    def __init__(self, document: dict[str, Any], defaults: dict[str, Any]) -> None:
        self._sources = (document, defaults)

    def value(self, value: Any, hops: tuple[KeyPath, ...]) -> Any:
        """`value`, which stands at the last of `hops`, without references."""
        if isinstance(value, dict):
            table = hops[-1]
            return {key: self.value(item, (*hops, (*table, key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, hops) for item in value]
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = _TOKEN.fullmatch(value)
        if whole and whole[1] is not None:
            return self._reference(whole, hops)
        return _TOKEN.sub(lambda token: self._as_text(token, hops), value)

    def _as_text(self, token: re.Match[str], hops: tuple[KeyPath, ...]) -> str:
        if token[0] == "$${":
            return "${"
        value = self._reference(token, hops)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict | list):
            kind = "a table" if isinstance(value, dict) else "a list"
            raise _Unresolved(f"{token[0]} is {kind} and can't stand within text")
        return str(value)

    def _reference(self, token: re.Match[str], hops: tuple[KeyPath, ...]) -> Any:
        name = (token[1] or "").strip()
        if not _NAME.fullmatch(name):
            raise _Unresolved(
                f"{token[0]!r} is not a reference; write ${{a.b}}, or $${{ for the characters"
            )
        target: KeyPath = tuple(name.split("."))
        if target in hops:
            raise _Unresolved(f"the references go round in a circle: {_chain(hops, target)}")
        for source in self._sources:
            found = _lookup(source, target)
            if found is not None:
                return self.value(found, (*hops, target))
        raise _Unknown(f"no value for ${{{name}}}: {_chain(hops, target)}")


def _lookup(document: Any, path: KeyPath) -> Any:
    for part in path:
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
    return document


def _chain(hops: tuple[KeyPath, ...], last: KeyPath) -> str:
    return " -> ".join(dotted(path) for path in (*hops, last))
