"""What stands around curves: title, legend with values, x axis, restarts. Pure; rows of runs that
are exactly as wide as asked for.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

from orchestra.formats import number
from orchestra.tui.canvas import TEXT, Glyphs, Run
from orchestra.tui.lines import MARKERS, MOST_LINES, Line, View, XAxis
from orchestra.tui.ticks import clock_ticks, linear_ticks, moment, span, span_ticks

Rows = list[list[Run]]


def title_row(title: str, view: View, logged: str, width: int) -> list[Run]:
    """What is drawn, and on the right how."""
    notes = [logged] if logged else []
    if view.smoothing:
        notes.append(f"smoothed {view.smoothing:g}")
    if view.zoomed:
        notes.append("zoomed")
    note = "  ".join(notes)
    room = width - cell_len(note) - 2
    if room < 8 or not note:
        return fit([Run(title)], width)
    return [Run(set_cell_size(title, room)), Run(f"  {note}", TEXT, True)]


def legend(lines: Sequence[Line], view: View, width: int, most_rows: int, first: str = "") -> Rows:
    """Letter, name and value of each line; values at the crosshair if there is one."""
    place = [[Run(first)]] if first else []
    if view.crosshair is not None:
        place.append([Run(f"at {_said(view.axis, view.crosshair)}")])
    signs = [MARKERS[line.colour % MOST_LINES] if len(lines) > 1 else "-" for line in lines]
    pairs = list(zip(signs, lines, strict=True))
    rows, left_out = _laid_out(
        [*place, *(_entry(*pair, view, width) for pair in pairs)], width, most_rows
    )
    if left_out and view.crosshair is not None:  # the values are what one points for
        short = [_entry(*pair, view, width, named=False) for pair in pairs]
        rows, left_out = _laid_out([*place, *short], width, most_rows)
    if left_out:
        rows[-1] = [*fit(rows[-1], width - 9), Run(f" +{left_out} more ")]
    return [fit(row, width) for row in rows]


def _laid_out(entries: Sequence[list[Run]], width: int, most_rows: int) -> tuple[Rows, int]:
    """In rows, and how many had no room."""
    rows: Rows = []
    room = 0
    for index, entry in enumerate(entries):
        size = sum(cell_len(run.text) for run in entry) + 2
        if not rows or size > room + 2:
            if len(rows) == most_rows:
                return rows, len(entries) - index
            rows.append([])
            room = width
        rows[-1] += [*entry, Run("  ")]
        room -= size
    return rows, 0


def _entry(sign: str, line: Line, view: View, width: int, *, named: bool = True) -> list[Run]:
    if view.crosshair is None:
        value = "" if line.last is None else number(line.last)
    else:
        value = _value_at(line, view.crosshair)
    name = line.name if cell_len(line.name) <= width // 2 else set_cell_size(line.name, width // 2)
    return [
        Run(f"{sign} ", line.colour),
        *([Run(f"{name} ", TEXT, line.stale)] if named else []),
        Run(value, line.colour),
    ]


def _value_at(line: Line, x: float) -> str:
    """Of the mark nearest to `x`; a dash beyond the ends of the curve."""
    marks = line.marks
    index = bisect.bisect_left(marks, x, key=lambda one: one.x)
    near = [one for one in marks[max(0, index - 2) : index + 2] if one.low == one.low or one.broken]
    if not near:
        return "-"
    room = (marks[-1].x - marks[0].x) / len(marks)
    mark = min(near, key=lambda one: abs(one.x - x))
    if not marks[0].x - room <= x <= marks[-1].x + room:
        return "-"
    if mark.low != mark.low:
        return "NaN"
    spread = f" ({number(mark.low)} to {number(mark.high)})" if mark.low < mark.high else ""
    return number(mark.mean) + spread + (" and NaN" if mark.broken else "")


def _said(axis: XAxis, x: float) -> str:
    if axis is XAxis.TIME:
        return moment(x)
    if axis is XAxis.RELATIVE:
        return span(x)
    if axis is XAxis.EPOCH:
        return f"epoch {number(x)}"
    return f"step {round(x) if abs(x) < 1e15 else number(x)}"


def x_axis(axis: XAxis, shown: tuple[float, float], left: int, width: int, glyphs: Glyphs) -> Rows:
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


def restarts_row(
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
    return fit(runs, width)


def _placed(labels: Iterable[tuple[int, str]], room: int) -> str:
    """Labels from these columns on, without those that would touch the one before."""
    text = ""
    for column, label in labels:
        column = max(column, 0)
        if (not text or column > len(text)) and column + len(label) <= room:
            text = text.ljust(column) + label
    return text


def fit(runs: Iterable[Run], width: int) -> list[Run]:
    """Cut or filled to exactly `width` cells."""
    fitted = []
    room = width
    for run in runs:
        text = run.text if cell_len(run.text) <= room else set_cell_size(run.text, room)
        if text:
            fitted.append(run._replace(text=text))
            room -= cell_len(text)
    return [*fitted, Run(" " * room)] if room else fitted
