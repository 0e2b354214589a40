"""What runs can be filtered and sorted by, and how its values are written. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_THOUSANDS = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_KEY = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_EVALUATED = re.compile(r"([^\"\\]+)\.([^.\"\\]+)")


class Kind(Enum):
    """How a field's values are compared."""

    TEXT = auto()
    TAGS = auto()  # several texts
    STATE = auto()
    NUMBER = auto()
    FLAG = auto()  # yes or no
    TIME = auto()  # a moment, filtered by how long ago it was
    VALUE = auto()  # of the config: any of these


@dataclass(frozen=True)
class Field:
    """A field by its name: a fixed one, `cfg.KEY`, or `eval.SPLIT.METRIC`."""

    name: str
    kind: Kind
    key: str = ""
    """Of a VALUE: the config's dotted key. Of an evaluation: its metric."""
    split: str = ""
    """Of an evaluation."""


#: In the order in which they are told.
FIELDS = {
    name: Field(name, kind)
    for kind, names in {
        Kind.TEXT: "id name task upstream note reason branch commit host metric parent member",
        Kind.TAGS: "tag",
        Kind.STATE: "state",
        Kind.FLAG: "dirty",
        Kind.NUMBER: "gpus priority attempt step loss score best",
        Kind.TIME: "age created started ended",
    }.items()
    for name in names.split()
}
#: What people say too.
_ALIASES = {"status": "state", "tags": "tag", "remark": "note", "attempts": "attempt"}


def field_named(name: str) -> Field | None:
    """The field, None if there is no such one."""
    lower = name.lower()
    known = FIELDS.get(_ALIASES.get(lower, lower))
    if known is not None:
        return known
    table, _, rest = name.partition(".")
    if table.lower() in ("cfg", "config") and _KEY.fullmatch(rest):
        return Field(f"cfg.{rest}", Kind.VALUE, rest)
    if table.lower() == "eval" and (parts := _EVALUATED.fullmatch(rest)):
        return Field(f"eval.{rest}", Kind.NUMBER, parts[2], parts[1])
    return None


def unknown(name: str) -> str:
    """Why `name` is no field, and what may have been meant."""
    from difflib import get_close_matches

    if name.lower() == "doing":
        from orchestra.wire.states import RunState

        return (
            "doing is known of the runs on the screen alone (their heartbeats tell); the registry "
            f"knows state: {', '.join(RunState)}"
        )
    near = get_close_matches(name.lower(), [*FIELDS, *_ALIASES], n=1)
    fields = ", ".join([*FIELDS, "cfg.KEY (the config)", "eval.SPLIT.METRIC"])
    hint = f"did you mean {near[0]}?" if near else f"fields are {fields}"
    return f"no field {name!r}: {hint}"


def to_number(text: str) -> float | None:
    """`0.1`, `1e-4`, `10k`, `inf`; None if it is no number."""
    factor = _THOUSANDS.get(text[-1:], 1.0)
    try:
        number = float(text if factor == 1.0 else text[:-1]) * factor
    except ValueError:
        return None
    return None if number != number else number


def seconds(text: str) -> float | None:
    """`90s`, `2h`, `1d12h`; None if it is no duration."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
