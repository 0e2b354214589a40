"""Curves with axes, legend and crosshair as rows of characters. Pure; draws what it is given.

A value that is not finite is a gap with a mark on the top edge and counts for no bound. Attempts
of a run are kept apart: what a later one computed again is dimmed, never joined to it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestra.tui.canvas import ALARM, TEXT, Canvas, Glyphs, Run
from orchestra.tui.frame import Rows, fit, legend, restarts_row, title_row, x_axis
from orchestra.tui.lines import MARKERS, MOST_LINES, Line, Mark, View
from orchestra.tui.ticks import Tick, linear_ticks, log_ticks, widened

LEAST = (24, 6)
"""Columns and rows; below, there is only a title."""
_SMOOTHED_IN = 500  # parts of a curve: a weight is that of one part to the next
_LEAST_SMOOTHED = 40  # marks: the average of a few scores would only lag behind them


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
        return Drawing([fit([Run(title)], width), *_blank(width, height - 1)])
    extent = extent_of(lines)
    shown = widened(*(view.shown or extent))
    curves = [_Curve.of(line, view.smoothing, shown, 2 * width) for line in lines]
    scale = _scale(curves, view.log_y)
    low = height < 8
    header = [] if low else [title_row(title, view, scale.note, width)]
    header += legend(lines, view, width, max(1, height // 6), title if low else "")
    restarts = any(line.restarts for line in lines) and not low
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
        for curve in reversed(curves):
            _letter(place, curve, MARKERS[curve.colour % MOST_LINES])
    _alarms(place, curves)
    if view.crosshair is not None and math.isfinite(place.x(view.crosshair)):
        canvas.backdrop(
            int(place.x(view.crosshair) / canvas.dots_wide * canvas.width), canvas.upright
        )
    rows = header + _with_labels(canvas, y_ticks, place, left, width, glyphs)
    rows += x_axis(view.axis, shown, left, width, glyphs)
    if restarts:
        rows.append(restarts_row(lines, shown, left, width, canvas.upright))
    return Drawing(rows, left, width - left, shown, extent)


@dataclass(frozen=True)
class _Scale:
    """The y axis. `logged`: bounds are exponents of ten."""

    low: float
    high: float
    logged: bool
    refused: bool = False
    """A logarithm was asked for, but nothing is positive."""

    @property
    def note(self) -> str:
        """In words."""
        if self.refused:
            return "no log y: nothing is positive"
        return "log y" if self.logged else ""

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


def extent_of(lines: Sequence[Line]) -> tuple[float, float]:
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
        smooth = smoothing > 0 and len(line.marks) >= _LEAST_SMOOTHED
        return cls(
            line.colour,
            line.stale,
            _merged(line.marks, shown, columns),
            [_merged(group, shown, columns) for group in line.superseded],
            _merged(_smoothed(line.marks, smoothing), shown, columns) if smooth else [],
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
    """Exponential moving average of the means, without the pull of the first one.

    What is before counts the less the further away it is, so that the same curve in more marks, or
    with a zoomed part in finer ones, is smoothed alike.
    """
    total = norm = 0.0
    before: Mark | None = None
    unit = (marks[-1].x / 2 - marks[0].x / 2) / min(len(marks) - 1, _SMOOTHED_IN) * 2
    found = []
    for mark in marks:
        if math.isfinite(mark.mean):
            distance = (mark.x - before.x) / unit if before is not None and unit > 0 else 1.0
            kept, before = weight**distance, mark
            total = kept * total + (1 - kept) * mark.mean
            norm = kept * norm + (1 - kept)
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


def _blank(width: int, height: int) -> Rows:
    return [[Run(" " * width)] for _ in range(height)]
