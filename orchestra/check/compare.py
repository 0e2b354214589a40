"""Whether two records, or two losses, say the same; floats as far as float32 sums allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-4
"""Relative, and absolute around 0."""


def close(one: float, other: float) -> bool:
    """Whether two floats are the same but for rounding; NaN is as NaN."""
    both_nan = math.isnan(one) and math.isnan(other)
    return both_nan or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """Where two JSON values differ first, in words; None if they say the same."""
    if isinstance(one, float) and isinstance(other, float):
        return None if close(one, other) else _told(where, one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{_at(where)}has {sorted(map(str, one))}, then {sorted(map(str, other))}"
        inner = (difference(one[key], other[key], f"{where}.{key}".lstrip(".")) for key in one)
        return next(filter(None, inner), None)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{_at(where)}has {len(one)} items, then {len(other)}"
        inner = (
            difference(*pair, f"{where}[{number}]")
            for number, pair in enumerate(zip(one, other, strict=True))
        )
        return next(filter(None, inner), None)
    return None if one == other else _told(where, one, other)


def _told(where: str, one: Any, other: Any) -> str:
    return f"{_at(where)}is {_short(one)}, then {_short(other)}"


def _at(where: str) -> str:
    return f"{where} " if where else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
