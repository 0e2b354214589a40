"""Curves with axes, legend and crosshair as rows of characters. Pure; draws what it is given.

A value that is not finite is a gap with a mark on the top edge and counts for no bound. Attempts
of a run are kept apart: what a later one computed again is dimmed, never joined to it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from orchestra.formats import number
from orchestra.tui.canvas import ALARM, TEXT, Canvas, Glyphs, Run
from orchestra.tui.ticks import (
    Tick,
    clock_ticks,
    linear_ticks,
    log_ticks,
    span,
    span_ticks,
    widened,
)

MOST_LINES = 8
MARKERS = "ABCDEFGH"
"""The letter of each line: colour is never the only sign."""
LEAST = (24, 6)
"""Columns and rows; below, there is only a title."""

Rows = list[list[Run]]


class XAxis(StrEnum):
    """What a curve is drawn over."""

    STEP = "step"
    EPOCH = "epoch"
    TIME = "time"
    RELATIVE = "since start"


class Mark(NamedTuple):
    """Some neighbouring points of a curve; `low` and `high` are NaN if none is finite."""

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
    log_y: bool = False
    smoothing: float = 0.0
    """Weight of what was before, 0 to 1; 0: none."""
    crosshair: float | None = None
    """x whose values are told."""


@dataclass(frozen=True)
class Drawing:
    """The picture, and where its curves lie in it."""

    rows: Rows
    left: int = 0
    """The first column of the curves."""
    width: int = 0
    shown: tuple[float, float] = (0.0, 1.0)
    extent: tuple[float, float] = (0.0, 1.0)
    """x of all points."""

    def x_at(self, column: int) -> float | None:
        """What lies in a column; None beside the curves."""
        if not 0 <= column - self.left < self.width:
            return None
        low, high = self.shown
        return low + (column - self.left + 0.5) / self.width * (high - low)


def draw(
    title: str,
    lines: Sequence[Line],
    view: View,
    width: int,
    height: int,
    glyphs: Glyphs = Glyphs.BRAILLE,
) -> Drawing:
    """Exactly `height` rows of `width` cells (each at least 1)."""
    lines = lines[:MOST_LINES]
    if width < LEAST[0] or height < LEAST[1]:
        return Drawing([_fit([Run(title)], width), *_blank(width, height - 1)])
    extent = _extent(lines)
    shown = widened(*(view.shown or extent))
    curves = [_Curve.of(line, view.smoothing, shown, 2 * width) for line in lines]
    scale = _scale(curves, view.log_y)
    header = [_title(title, view, scale, width)] if height >= 8 else []
    header += _legend(lines, view, width, max(1, height // 6))
    restarts = any(line.restarts for line in lines) and height >= 8
    high = height - len(header) - 2 - restarts
    if high < 2:
        header, high = header[:1], height - 3 - restarts
    y_ticks = scale.ticks(max(3, high // 2))
    left = min(max((len(label) for _, label in y_ticks), default=0), width // 3) + 1
    canvas = Canvas(width - left, high, glyphs)
    place = _Place(canvas, shown, scale)
    for curve in reversed(curves):  # the first is the run under the cursor: on top
        curve.draw(place)
    if len(lines) > 1:
        for letter, curve in zip(MARKERS, curves, strict=False):
            _letter(place, curve, letter)
    _alarms(place, curves)
    if view.crosshair is not None and math.isfinite(place.x(view.crosshair)):
        canvas.backdrop(
            int(place.x(view.crosshair) / canvas.dots_wide * canvas.width), canvas.upright
        )
    rows = header + _with_labels(canvas, y_ticks, place, left, width, glyphs)
    rows += _x_axis(view.axis, shown, left, width, glyphs)
    if restarts:
        rows.append(_restarts(lines, shown, left, width, canvas.upright))
    return Drawing(rows, left, width - left, shown, extent)


@dataclass(frozen=True)
class _Scale:
    """The y axis. `logged`: bounds are exponents of ten."""

    low: float
    high: float
    logged: bool
    refused: bool = False
    """A logarithm was asked for, but nothing is positive."""

    def share(self, value: float) -> float:
        """0 at the bottom, 1 at the top; NaN where there is no place for it."""
        if self.logged:
            value = math.log10(value) if value > 0 else math.nan
        # Halves: the difference of two floats may be too large for one.
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def ticks(self, count: int) -> list[Tick]:
        return (log_ticks if self.logged else linear_ticks)(self.low, self.high, count)


@dataclass(frozen=True)
class _Place:
    """From values to dots."""

    canvas: Canvas
    shown: tuple[float, float]
    scale: _Scale

    def x(self, value: float) -> float:
        low, high = self.shown
        return (value / 2 - low / 2) / (high / 2 - low / 2) * (self.canvas.dots_wide - 1)

    def y(self, value: float) -> float:
        return (1 - self.scale.share(value)) * (self.canvas.dots_high - 1) + 0.5


def _extent(lines: Sequence[Line]) -> tuple[float, float]:
    """From the first x of all to the last."""
    groups = [group for line in lines for group in (line.marks, *line.superseded)]
    ends = [x for group in groups for x in _ends(group)]
    return widened(min(ends), max(ends)) if ends else (0.0, 1.0)


def _ends(marks: Sequence[Mark]) -> Iterator[float]:
    for mark in (marks[:1], marks[-1:]):
        yield from (one.x for one in mark if math.isfinite(one.x))


@dataclass(frozen=True)
class _Curve:
    """What is to be drawn of a line: at most one mark for each column of dots."""

    colour: int
    dim: bool
    current: list[Mark]
    superseded: list[list[Mark]]
    smooth: list[Mark]

    @classmethod
    def of(cls, line: Line, smoothing: float, shown: tuple[float, float], columns: int) -> _Curve:
        return cls(
            line.colour,
            line.stale,
            _merged(line.marks, shown, columns),
            [_merged(group, shown, columns) for group in line.superseded],
            _merged(_smoothed(line.marks, smoothing), shown, columns) if smoothing > 0 else [],
        )

    def draw(self, place: _Place) -> None:
        for group in self.superseded:
            _strokes(place, group, self.colour, dim=True)
        _strokes(place, self.current, self.colour, dim=self.dim or bool(self.smooth))
        _strokes(place, self.smooth, self.colour, dim=self.dim)


def _merged(marks: Sequence[Mark], shown: tuple[float, float], columns: int) -> list[Mark]:
    """The marks in a part of the x axis and one beyond each end; neighbours that fall into one
    column are one."""
    marks = _within(marks, shown, 1)
    if len(marks) < columns:
        return list(marks)
    low, high = shown
    per_column = columns / (high - low) if high - low < math.inf else 0.0
    found: list[Mark] = []
    key = math.nan
    for mark in marks:
        x, least, most, mean, broken = mark
        here = (x - low) * per_column // 1
        if here != key:
            found.append(mark)
            key = here
            continue
        x, before_least, before_most, _, before_broken = found[-1]
        # NaN compares as false: the finite one of two is kept.
        least = before_least if before_least <= least or least != least else least
        most = before_most if before_most >= most or most != most else most
        found[-1] = Mark(x, least, most, mean, broken or before_broken)
    return found


def _scale(curves: Sequence[_Curve], log_y: bool) -> _Scale:
    low, high = math.inf, -math.inf
    least_positive = math.inf
    for curve in curves:
        for group in (curve.current, *curve.superseded):
            for mark in group:
                if mark.low == mark.low:
                    low, high = min(low, mark.low), max(high, mark.high)
                    positive = mark.low if mark.low > 0 else mark.high
                    if 0 < positive < least_positive:
                        least_positive = positive
    if low > high:
        return _Scale(0.0, 1.0, False, log_y)
    if log_y and high > 0:
        return _Scale(*widened(math.log10(least_positive), math.log10(high)), True)
    return _Scale(*widened(low, high), False, log_y)


def _within(marks: Sequence[Mark], shown: tuple[float, float], beyond: int = 0) -> Sequence[Mark]:
    """The marks in a part of the x axis, and so many more on each side."""
    first = bisect.bisect_left(marks, shown[0], key=_x)
    last = bisect.bisect_right(marks, shown[1], key=_x)
    return marks[max(0, first - beyond) : last + beyond]


def _x(mark: Mark) -> float:
    return mark.x


def _strokes(place: _Place, marks: Sequence[Mark], colour: int, *, dim: bool) -> None:
    """Upright strokes from lowest to highest, joined from one mark to the next."""
    canvas = place.canvas
    before: tuple[float, float, float] | None = None
    for mark in marks:
        if mark.low != mark.low or (place.scale.logged and mark.high <= 0):
            before = None
            continue
        x, top = place.x(mark.x), place.y(mark.high)
        bottom = place.y(mark.low) if not place.scale.logged or mark.low > 0 else canvas.dots_high
        # Neighbours that overlap touch already.
        if before is not None and not (
            x - before[0] <= 1 and top <= before[2] and bottom >= before[1]
        ):
            start = min(max(top, before[1]), before[2])
            canvas.line(before[0], start, x, min(max(before[1], top), bottom), colour, dim)
        canvas.upright_line(x, top, bottom, colour, dim)
        before = None if mark.broken else (x, top, bottom)


def _smoothed(marks: Sequence[Mark], weight: float) -> list[Mark]:
    """Exponential moving average of the means, without the pull of the first one."""
    total = norm = 0.0
    found = []
    for mark in marks:
        if math.isfinite(mark.mean):
            total = weight * total + (1 - weight) * mark.mean
            norm = weight * norm + (1 - weight)
            value = total / norm
            found.append(Mark(mark.x, value, value, value, mark.broken))
        else:
            found.append(mark._replace(low=math.nan, high=math.nan))
    return found


def _letter(place: _Place, curve: _Curve, letter: str) -> None:
    """Beside the last mark to be seen."""
    for mark in reversed(_within(curve.current, place.shown)):
        y = place.y(mark.mean)
        if math.isfinite(y):
            canvas = place.canvas
            column = int(place.x(mark.x) * canvas.width / canvas.dots_wide)
            row = int(y * canvas.height / canvas.dots_high)
            canvas.sign(
                min(column + 1, canvas.width - 1), min(max(row, 0), canvas.height - 1), letter,
                curve.colour,
            )  # fmt: skip
            return


def _alarms(place: _Place, curves: Sequence[_Curve]) -> None:
    canvas = place.canvas
    for curve in curves:
        for group in (curve.current, *curve.superseded):
            for mark in group:
                if mark.broken and place.shown[0] <= mark.x <= place.shown[1]:
                    column = int(place.x(mark.x) * canvas.width / canvas.dots_wide)
                    canvas.sign(column, 0, canvas.cross, ALARM)


def _title(title: str, view: View, scale: _Scale, width: int) -> list[Run]:
    notes = []
    if scale.logged:
        notes.append("log y")
    elif scale.refused:
        notes.append("no log y: nothing is positive")
    if view.smoothing:
        notes.append(f"smoothed {view.smoothing:g}")
    if view.shown is not None:
        notes.append("zoomed")
    note = "  ".join(notes)
    room = width - cell_len(note) - 2
    if room < 8 or not note:
        return _fit([Run(title)], width)
    return [Run(set_cell_size(title, room)), Run(f"  {note}", TEXT, True)]


def _legend(lines: Sequence[Line], view: View, width: int, most_rows: int) -> Rows:
    """Letter, name and value of each line; values at the crosshair if there is one."""
    place = [] if view.crosshair is None else [[Run(f"at {_said(view.axis, view.crosshair)}")]]
    entries = place + [_entry(index, line, view, width) for index, line in enumerate(lines)]
    rows: Rows = []
    room = 0
    for index, entry in enumerate(entries):
        size = sum(cell_len(run.text) for run in entry) + 2
        if not rows or size > room + 2:
            if len(rows) == most_rows:
                rows[-1] = [*_fit(rows[-1], width - 9), Run(f" +{len(entries) - index} more ")]
                break
            rows.append([])
            room = width
        rows[-1] += [*entry, Run("  ")]
        room -= size
    return [_fit(row, width) for row in rows]


def _entry(index: int, line: Line, view: View, width: int) -> list[Run]:
    if view.crosshair is None:
        value = "" if line.last is None else number(line.last)
    else:
        value = _value_at(line, view.crosshair)
    name = line.name if cell_len(line.name) <= width // 2 else set_cell_size(line.name, width // 2)
    return [
        Run(f"{MARKERS[index]} ", line.colour),
        Run(f"{name} ", TEXT, line.stale),
        Run(value, line.colour),
    ]


def _value_at(line: Line, x: float) -> str:
    """Of the mark nearest to `x`; a dash beyond the ends of the curve."""
    marks = line.marks
    if not marks:
        return "-"
    index = bisect.bisect_left(marks, x, key=_x)
    near = marks[max(0, index - 1) : index + 1]
    room = (marks[-1].x - marks[0].x) / len(marks)
    mark = min(near, key=lambda mark: abs(mark.x - x))
    if not marks[0].x - room <= x <= marks[-1].x + room:
        return "-"
    if mark.low != mark.low:
        return "NaN"
    spread = f" ({number(mark.low)} to {number(mark.high)})" if mark.low < mark.high else ""
    return number(mark.mean) + spread + (" and NaN" if mark.broken else "")


def _said(axis: XAxis, x: float) -> str:
    if axis is XAxis.TIME:
        import time

        try:
            return time.strftime("%d %b %H:%M:%S", time.localtime(x))
        except (OverflowError, ValueError, OSError):
            return number(x)
    if axis is XAxis.RELATIVE:
        return span(x)
    if axis is XAxis.EPOCH:
        return f"epoch {number(x)}"
    return f"step {round(x) if abs(x) < 1e15 else number(x)}"


def _with_labels(
    canvas: Canvas, ticks: Iterable[Tick], place: _Place, left: int, width: int, glyphs: Glyphs
) -> Rows:
    bar, tick = ("|", "+") if glyphs is Glyphs.ASCII else ("│", "┤")
    labels = {}
    for value, label in ticks:
        share = (value / 2 - place.scale.low / 2) / (place.scale.high / 2 - place.scale.low / 2)
        if 0 <= share <= 1:
            row = int(
                ((1 - share) * (canvas.dots_high - 1) + 0.5) / canvas.dots_high * canvas.height
            )
            labels[min(row, canvas.height - 1)] = label
    rows = []
    for index, runs in enumerate(canvas.rows()):
        label = labels.get(index, "")[: left - 1].rjust(left - 1)
        rows.append([Run(label + (tick if index in labels else bar), TEXT, True), *runs])
    return rows


def _x_axis(axis: XAxis, shown: tuple[float, float], left: int, width: int, glyphs: Glyphs) -> Rows:
    make = {XAxis.TIME: clock_ticks, XAxis.RELATIVE: span_ticks}.get(axis, linear_ticks)
    columns = width - left
    ticks = [
        (_column(value, shown, columns), label)
        for value, label in make(*shown, max(2, columns // 12))
        if shown[0] <= value <= shown[1]
    ]
    corner, flat, mark = ("+", "-", "+") if glyphs is Glyphs.ASCII else ("└", "─", "┬")
    ruler = [flat] * columns
    for column, _ in ticks:
        ruler[column] = mark
    name = axis.value
    room = columns - len(name) - 1
    labels = _placed([(column - len(label) // 2, label) for column, label in ticks], max(room, 0))
    text = set_cell_size(" " * left + labels.ljust(max(room, 0)) + " " + name, width)
    return [
        [Run(" " * (left - 1) + corner + "".join(ruler), TEXT, True)],
        [Run(text, TEXT, True)],
    ]


def _column(x: float, shown: tuple[float, float], columns: int) -> int:
    share = (x / 2 - shown[0] / 2) / (shown[1] / 2 - shown[0] / 2)
    return min(max(int(share * columns), 0), columns - 1)


def _restarts(
    lines: Sequence[Line], shown: tuple[float, float], left: int, width: int, upright: str
) -> list[Run]:
    """`|2` under the axis where attempt 2 began, in its run's colour."""
    found = sorted(
        (_column(x, shown, width - left), f"{upright}{attempt}", line.colour)
        for line in lines
        for x, attempt in line.restarts
        if shown[0] <= x <= shown[1]
    )
    runs = [Run(" " * left)]
    at = 0
    for column, label, colour in found:
        if column >= at and column + len(label) <= width - left:
            runs += [Run(" " * (column - at)), Run(label, colour)]
            at = column + len(label)
    return _fit(runs, width)


def _placed(labels: Iterable[tuple[int, str]], room: int) -> str:
    """Labels from these columns on, without those that would touch the one before."""
    text = ""
    for column, label in labels:
        column = max(column, 0)
        if (not text or column > len(text)) and column + len(label) <= room:
            text = text.ljust(column) + label
    return text


def _fit(runs: Iterable[Run], width: int) -> list[Run]:
    """Cut or filled to exactly `width` cells."""
    fitted = []
    room = width
    for run in runs:
        text = run.text if cell_len(run.text) <= room else set_cell_size(run.text, room)
        if text:
            fitted.append(run._replace(text=text))
            room -= cell_len(text)
    return [*fitted, Run(" " * room)] if room else fitted


def _blank(width: int, height: int) -> Rows:
    return [[Run(" " * width)] for _ in range(height)]
