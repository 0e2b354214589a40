"""pydantic's errors in the project's words: which key, what it must be, what stands there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestra.config.problems import KeyPath
from orchestra.config.schema import INCOMPLETE

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Finding:
    """One key that does not fit the schema."""

    path: KeyPath
    kind: str
    """pydantic's error type; "extra_forbidden" is an unknown key, "missing" a required one."""
    text: str


def findings(error: ValidationError, document: dict[str, Any]) -> list[Finding]:
    """What is wrong with `document`, one finding per key."""
    found: dict[KeyPath, Finding] = {}
    for details in error.errors(include_url=False):
        for finding in _translate(details, document):
            # A union gives one error per alternative; the first is as good as any.
            found.setdefault(finding.path, finding)
    return list(found.values())


def _translate(details: ErrorDetails, document: dict[str, Any]) -> Iterator[Finding]:
    path = _path_in(document, details["loc"])
    kind = details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        yield Finding(path, kind, "no such key")
    elif kind in ("missing", "union_tag_not_found"):
        if kind == "union_tag_not_found":
            path = (*path, "kind")
        yield Finding(path, "missing", "required, but nothing sets it")
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        given = details["input"]
        if kind == "union_tag_invalid":
            path, given = (*path, "kind"), context.get("tag")
        near = get_close_matches(str(given), expected.replace("'", " ").split(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        yield Finding(path, kind, f"must be {expected}, not {_show(given)}{hint}")
    elif kind == INCOMPLETE:
        yield Finding(path, kind, details["msg"])
    elif kind in ("value_error", "assertion_error"):
        yield Finding(path, kind, str(context["error"]))
    else:
        must = details["msg"].replace("Input should be", "must be", 1)
        must = must.replace("a valid string", "text").replace("an object", "a table")
        must = must.replace("a valid ", "a ").replace("a integer", "an integer")
        yield Finding(path, kind, f"{must}, not {_show(details['input'])}")


def _path_in(document: Any, loc: tuple[int | str, ...]) -> KeyPath:
    """`loc` without what is no key: the tag of a union, the alternative that was tried."""
    path: list[int | str] = []
    current = document
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(current, dict):
            if part not in current and (part == current.get("kind") or not last):
                continue
            path.append(part)
            current = current.get(str(part))
        elif isinstance(current, list) and isinstance(part, int):
            path.append(part)
            current = current[part] if part < len(current) else None
    return tuple(path)


def _show(value: Any) -> str:
    """A value as TOML would have it, shortened."""
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 3] + "..."
    return f"the text {text}" if isinstance(value, str) else text
