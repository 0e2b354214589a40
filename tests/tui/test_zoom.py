from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.tui.lines import View
from orchestra.tui.zoom import Zoom


def test_closer_keeps_the_end_in_view_while_the_run_grows() -> None:
    zoom = Zoom((0, 100)).by(0.5, None)
    assert zoom.shown == (50, 100)
    assert zoom.within((0, 120)).shown == (70, 120)


def test_a_part_in_the_middle_stays_where_it_is() -> None:
    zoom = Zoom((0, 100)).by(0.5, 50)
    assert zoom.shown == (25, 75)
    assert zoom.within((0, 120)).shown == (25, 75)
    assert zoom.panned(0.5).shown == (50, 100)
    assert zoom.panned(-9).shown == (0, 50)


def test_wider_than_all_is_all() -> None:
    assert Zoom((0, 100)).by(0.5, 20).by(4, 20).part is None
    assert Zoom((0, 100)).panned(0.5).part is None
    assert Zoom((0, 100)).by(0.5, 20).all().part is None
    assert Zoom((0, 100)).on(View()).zoomed is False


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-50, 150), st.floats(-2, 2)), max_size=30))
def test_never_beyond_the_ends(moves: list[tuple[float, float, float]]) -> None:
    zoom = Zoom((0, 100))
    for factor, around, share in moves:
        zoom = zoom.by(factor, around).panned(share)
        low, high = zoom.shown
        assert 0 <= low < high <= 100
        if low <= around <= high:
            assert pytest.approx(zoom.by(1.0, around).shown) == (low, high)
