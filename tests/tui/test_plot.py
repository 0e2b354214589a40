from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestra.tui.canvas import ALARM, Glyphs
from orchestra.tui.lines import Line, Mark, View, XAxis
from orchestra.tui.plot import Drawing, draw

ANY = st.floats(allow_nan=True, allow_infinity=True)
X = st.floats(-1e12, 1e12, allow_nan=False)


def mark(x: float, value: float) -> Mark:
    finite = math.isfinite(value)
    kept = value if finite else math.nan
    return Mark(x, kept, kept, kept, not finite)


def marks(*values: float, start: int = 0) -> list[Mark]:
    return [mark(start + index, value) for index, value in enumerate(values)]


def text(drawing: Drawing) -> list[str]:
    return ["".join(run.text for run in row) for row in drawing.rows]


def rows_of(drawing: Drawing, series: int, *, dim: bool = False) -> list[int]:
    """Rows of the curves' area in which a series has something."""
    return [
        index
        for index, row in enumerate(drawing.rows)
        if any(run.series == series and run.dim == dim and _is_curve(run.text) for run in row)
    ]


def _is_curve(text: str) -> bool:
    return any("\u2800" < character <= "\u28ff" for character in text)


@st.composite
def some_line(draw: st.DrawFn) -> Line:
    def some_marks(most: int) -> list[Mark]:
        pairs = draw(st.lists(st.tuples(X, ANY), max_size=most))
        return sorted((mark(x, value) for x, value in pairs), key=lambda one: one.x)

    return Line(
        name=draw(st.text("aü漢 b", max_size=40)),
        colour=0,
        marks=some_marks(30),
        superseded=[some_marks(5)],
        restarts=draw(st.lists(st.tuples(X, st.integers(2, 999)), max_size=4)),
        last=draw(st.none() | ANY),
        stale=draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(some_line(), max_size=9),
    st.integers(1, 130),
    st.integers(1, 40),
    st.sampled_from(Glyphs),
    st.builds(
        View,
        st.sampled_from(XAxis),
        st.none() | st.tuples(X, X).map(lambda ends: (min(ends), max(ends))),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0.0, 0.9]),
        st.none() | X,
    ),
)
def test_anything_fits_exactly(
    lines: Sequence[Line], width: int, height: int, glyphs: Glyphs, view: View
) -> None:
    drawing = draw("train/loss 漢字", lines, view, width, height, glyphs)
    assert len(drawing.rows) == height
    assert {cell_len(row) for row in text(drawing)} == {width}
    for column in (0, width // 2, width - 1):
        x = drawing.x_at(column)
        assert x is None or drawing.shown[0] <= x <= drawing.shown[1]


def test_a_falling_curve_falls() -> None:
    lines = [Line("run", 0, marks(4.0, 3.0, 2.0, 1.0), last=1.0)]
    drawing = draw("train/loss", lines, View(), 60, 16)
    rows = text(drawing)
    assert rows[0].startswith("train/loss") and rows[1].startswith("- run 1 ")
    assert rows[2].startswith("4") and "1.0" in rows[13] and rows[-1].rstrip().endswith("step")
    first = next(index for index, row in enumerate(rows) if _is_curve(row[5:8]))
    last = next(index for index, row in enumerate(rows) if _is_curve(row[-2:]))
    assert (first, last) == (2, 13)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_gap_and_a_mark(bad: float) -> None:
    good = [2.0] * 10 + [1.0] * 10
    drawing = draw("loss", [Line("run", 0, marks(*good, bad, *good))], View(), 66, 14)
    rows = text(drawing)
    column = rows[2].index("×")
    assert any(run.series == ALARM for run in drawing.rows[2])
    assert abs(column - (drawing.left + drawing.width * 20 / 40)) <= 1
    gap = [row[column] for row in rows[3:-2]]
    assert not any(map(_is_curve, gap)), "the line goes on across the hole"
    clean = draw("loss", [Line("run", 0, marks(*good, 1.5, *good))], View(), 66, 14)
    assert [row[:4] for row in rows[2:-2]] == [row[:4] for row in text(clean)[2:-2]], "bounds"
    assert any(_is_curve(row[column]) for row in text(clean)[3:-2])


def test_attempts_do_not_zigzag() -> None:
    """What was computed again is dim and not joined; the second attempt is told under the axis."""
    current, lost = marks(*[1.0] * 30), [marks(*[3.0] * 10, start=10)]
    drawing = draw("loss", [Line("run", 0, current, lost, [(10, 2)])], View(), 64, 16)
    rows = text(drawing)
    assert rows_of(drawing, 0) and rows_of(drawing, 0, dim=True)
    assert not set(rows_of(drawing, 0)) & set(rows_of(drawing, 0, dim=True))
    between = range(max(rows_of(drawing, 0, dim=True)) + 1, min(rows_of(drawing, 0)))
    assert between and not any(_is_curve(rows[index]) for index in between)
    column = rows[-1].index("│2")
    assert abs(column - (drawing.left + drawing.width * 10 / 29)) <= 1


def test_smoothing_is_over_the_faint_raw_line() -> None:
    noisy = marks(*(index % 2 * 2.0 for index in range(40)))
    plain = draw("loss", [Line("run", 0, noisy)], View(), 60, 14)
    smooth = draw("loss", [Line("run", 0, noisy)], View(smoothing=0.9), 60, 14)
    assert not rows_of(plain, 0, dim=True)
    assert len(rows_of(smooth, 0, dim=True)) > 6, "the raw line is still there"
    assert len(rows_of(smooth, 0)) < len(rows_of(plain, 0))
    assert "smoothed 0.9" in text(smooth)[0]


def test_smoothing_does_not_depend_on_how_many_marks_a_part_has() -> None:
    """As where a zoomed part is told in finer ones, or later points are not summed up yet."""

    def jump(*at: range) -> Drawing:
        seen = [mark(x, float(x >= 500)) for part in at for x in part]
        return draw("loss", [Line("run", 0, seen)], View(smoothing=0.97), 100, 20)

    def rise(drawing: Drawing) -> list[int]:
        """For each row the first column of the smoothed line."""
        found = []
        for row in drawing.rows[2:-2]:
            column = 0
            for run in row:
                if run.series == 0 and not run.dim and _is_curve(run.text):
                    found.append(column)
                    break
                column += len(run.text)
        return found

    even, uneven = rise(jump(range(1000))), rise(jump(range(500), range(500, 1000, 5)))
    assert len(even) == len(uneven) > 10
    assert all(abs(one - other) <= 2 for one, other in zip(even, uneven, strict=True))


def test_log_y_spreads_what_is_small() -> None:
    falling = marks(*(10.0**-exponent for exponent in range(7)))
    logged = draw("loss", [Line("run", 0, falling)], View(log_y=True), 60, 20)
    labels = [row.split("┤")[0].strip() for row in text(logged) if "┤" in row]
    assert labels == ["1", "0.1", "0.01", "0.001", "0.0001", "1e-5", "1e-6"]
    assert "log y" in text(logged)[0]


def test_log_y_of_what_is_never_positive_says_so() -> None:
    drawing = draw("loss", [Line("run", 0, marks(-1.0, 0.0))], View(log_y=True), 70, 14)
    assert "nothing is positive" in text(drawing)[0]
    mixed = draw("loss", [Line("run", 0, marks(-1.0, 0.0, 5.0, 7.0))], View(log_y=True), 70, 14)
    assert "nothing" not in text(mixed)[0] and rows_of(mixed, 0)


def test_the_crosshair_tells_every_line_at_that_x() -> None:
    lines = [
        Line("one", 0, marks(1.0, 2.0, 3.0), last=3.0),
        Line("two", 1, marks(10.0, math.nan, 30.0), last=30.0),
        Line("three", 2, marks(7.0, start=500), last=7.0),
    ]
    legend = " ".join(" ".join(text(draw("loss", lines, View(crosshair=1.2), 90, 20))[1:3]).split())
    assert "at step 1 A one 2 B two NaN C three -" in legend
    drawing = draw("loss", lines, View(shown=(0, 2), crosshair=1.0), 90, 20)
    column = drawing.left + drawing.width // 2
    assert abs((drawing.x_at(column) or 0) - 1.0) < 0.05
    assert sum("│" in row[drawing.left :] for row in text(drawing)) > 10
    assert drawing.x_at(0) is None and drawing.x_at(200) is None


def test_zoom_shows_a_part_with_its_own_bounds() -> None:
    spike = marks(100.0, *[1.0, 2.0] * 10)
    zoomed = draw("loss", [Line("run", 0, spike)], View(shown=(5, 15), zoomed=True), 60, 14)
    assert zoomed.extent == (0, 20) and "zoomed" in text(zoomed)[0]
    assert "2.0" in text(zoomed)[2][:6]


@pytest.mark.parametrize(
    ("axis", "x", "said"),
    [
        (XAxis.EPOCH, 0.25, "epoch 0.25"),
        (XAxis.RELATIVE, 5400.0, "1h30m"),
        (XAxis.STEP, 1000.0, "step 1000"),
    ],
)
def test_every_axis_has_its_words(axis: XAxis, x: float, said: str) -> None:
    lines = [Line("run", 0, [mark(0, 1.0), mark(2 * x, 2.0)])]
    rows = text(draw("loss", lines, View(axis, crosshair=x), 80, 14))
    assert f"at {said} " in rows[1] and rows[-1].rstrip().endswith(axis.value)


def test_the_letter_stands_at_the_end_of_each_line() -> None:
    lines = [Line("one", 0, marks(1.0, 2.0)), Line("two", 1, marks(1.0, 1.0))]
    rows = text(draw("loss", lines, View(), 60, 14))
    assert [row[-1] for row in rows[2:-2] if row[-1] in "AB"] == ["A", "B"]
    assert not any(row[-1] == "A" for row in text(draw("loss", lines[:1], View(), 60, 14)))


def test_eight_lines_and_no_more() -> None:
    lines = [Line(f"run{index}", index, marks(1.0, index)) for index in range(10)]
    drawing = draw("loss", lines, View(), 200, 40)
    assert {run.series for row in drawing.rows for run in row if run.series >= 0} == set(range(8))
    few = text(draw("loss", lines, View(), 30, 12))
    assert "more" in few[2], "names that do not fit are counted"


def test_pointed_at_the_values_come_before_the_names() -> None:
    lines = [
        Line(f"a-run-with-a-long-name-{index}", index, marks(1.0, index)) for index in range(3)
    ]
    legend = " ".join(text(draw("loss", lines, View(crosshair=1.0), 46, 14))[1:4])
    assert [f"{letter} {value}" in legend for letter, value in zip("ABC", "012", strict=True)] == [
        True
    ] * 3
    assert "more" not in legend
