"""What a plot is made of: lines of marks, and how they are looked at. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MOST_LINES = 8
MARKERS = "ABCDEFGH"
"""The letter of each colour, which is never the only sign."""


class XAxis(StrEnum):
    """What a curve is drawn over."""

    STEP = "step"
    EPOCH = "epoch"
    TIME = "time"
    RELATIVE = "since start"


class Mark(NamedTuple):
    """Some neighbouring points of a curve; `low` and `high` are NaN if none is finite. One that is
    not `broken` either is a gap in the line."""

    x: float
    low: float
    high: float
    mean: float
    broken: bool
    """At least one of them is NaN or infinite."""


@dataclass(frozen=True)
class Line:
    """One series of one run. `name` is clean; `colour` is the number its runs carry."""

    name: str
    colour: int
    marks: Sequence[Mark]
    """What counts, by x."""
    superseded: Sequence[Sequence[Mark]] = ()
    """Of earlier attempts, each by x."""
    restarts: Sequence[tuple[float, int]] = ()
    """x and number of each attempt but the first."""
    last: float | None = None
    """The newest value."""
    stale: bool = False
    """Of another moment: drawn until the new one is there."""


@dataclass(frozen=True)
class View:
    """How to draw."""

    axis: XAxis = XAxis.STEP
    shown: tuple[float, float] | None = None
    """The part of the x axis; None: all."""
    zoomed: bool = False
    """Whether that is to be said."""
    log_y: bool = False
    smoothing: float = 0.0
    """Weight of what was before, from one part of the curve to the next, 0 to 1; 0: none."""
    crosshair: float | None = None
    """x whose values are told."""
