from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.tui.canvas import TEXT, Canvas, Glyphs, glyphs_for

ANY = st.floats(allow_nan=True, allow_infinity=True)
NEAR = st.floats(-50, 50)


def text(canvas: Canvas) -> list[str]:
    return ["".join(run.text for run in row) for row in canvas.rows()]


@given(
    st.integers(1, 30),
    st.integers(1, 12),
    st.sampled_from(Glyphs),
    st.lists(st.tuples(ANY | NEAR, ANY | NEAR, ANY | NEAR, ANY | NEAR), max_size=8),
)
def test_any_line_fits(
    width: int, height: int, glyphs: Glyphs, lines: list[tuple[float, float, float, float]]
) -> None:
    canvas = Canvas(width, height, glyphs)
    for series, line in enumerate(lines):
        canvas.line(*line, series)
        canvas.upright_line(line[0], line[1], line[3], series)
    assert [len(row) for row in text(canvas)] == [width] * height


def test_the_characters_of_each_font() -> None:
    drawn = {}
    for glyphs in Glyphs:
        canvas = Canvas(4, 2, glyphs)
        canvas.line(0, 0, canvas.dots_wide - 1, canvas.dots_high - 1, 0)
        drawn[glyphs] = text(canvas)
    assert drawn == {
        Glyphs.BRAILLE: ["⠑⢄  ", "  ⠑⢄"],
        Glyphs.BLOCKS: ["▀▚▖ ", "  ▝▚"],
        Glyphs.ASCII: ["'.  ", "  '."],
    }


@given(NEAR, NEAR, NEAR, NEAR)
def test_a_line_has_no_hole(x0: float, y0: float, x1: float, y1: float) -> None:
    """Every column of dots between both ends has one, and neighbours touch."""
    canvas = Canvas(100, 100, Glyphs.ASCII)  # 1 x 2 dots
    canvas.line(x0 + 50, y0 + 100, x1 + 50, y1 + 100, 0)
    rows = text(canvas)
    columns: dict[int, list[int]] = {}
    for row, line in enumerate(rows):
        for column, character in enumerate(line):
            dots = {" ": (), "'": (0,), ".": (1,), ":": (0, 1)}[character]
            columns.setdefault(column, []).extend(2 * row + dot for dot in dots)
    found = {column: dots for column, dots in columns.items() if dots}
    low, high = sorted((x0 + 50, x1 + 50))
    assert set(found) == set(range(int(low), min(int(high), 99) + 1))
    for column, dots in found.items():
        assert max(dots) - min(dots) == len(dots) - 1
        beside = found.get(column + 1, dots)
        assert min(beside) - max(dots) <= 1 and min(dots) - max(beside) <= 1


def test_who_draws_last_owns_the_cell() -> None:
    canvas = Canvas(1, 1)
    canvas.upright_line(0, 0, 3, 0)
    canvas.upright_line(1, 0, 3, 1)
    assert list(canvas.rows()) == [[("⢸", 1, False)]], "no dot of the first is left"
    canvas.upright_line(1, 0, 0, 1, dim=True)
    assert list(canvas.rows()) == [[("⠈", 1, True)]]


def test_the_same_series_adds_dots() -> None:
    canvas = Canvas(1, 1)
    canvas.upright_line(0, 0, 3, 0)
    canvas.upright_line(1, 0, 3, 0)
    assert text(canvas) == ["⣿"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_drawn(bad: float) -> None:
    canvas = Canvas(3, 3)
    for position in range(4):
        ends = [1.0, 1.0, 5.0, 5.0]
        ends[position] = bad
        canvas.line(*ends, series=0)
    canvas.upright_line(bad, 0, 3, 0)
    canvas.upright_line(1, bad, 3, 0)
    assert text(canvas) == ["   "] * 3


def test_signs_and_backdrop() -> None:
    canvas = Canvas(3, 2)
    canvas.upright_line(2, 0, 3, 0)
    canvas.sign(0, 0, "A", 7)
    canvas.sign(9, 9, "B", 7)
    canvas.backdrop(1, "|")
    canvas.backdrop(0, "|")
    assert text(canvas) == ["A⡇ ", "|| "]
    assert ("|", TEXT, True) in [run._replace(text=run.text[:1]) for run in list(canvas.rows())[1]]


def test_the_glyphs_can_be_chosen() -> None:
    assert glyphs_for({}) is Glyphs.BRAILLE
    assert glyphs_for({"TERM": "linux"}) is Glyphs.ASCII
    assert glyphs_for({"TERM": "linux", "ORCHESTRA_GLYPHS": "blocks"}) is Glyphs.BLOCKS
    assert glyphs_for({"ORCHESTRA_GLYPHS": "ascii"}) is Glyphs.ASCII
    assert glyphs_for({"ORCHESTRA_GLYPHS": "emoji"}) is Glyphs.BRAILLE
