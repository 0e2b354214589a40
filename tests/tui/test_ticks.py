from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.tui.ticks import clock_ticks, linear_ticks, log_ticks, span_ticks, widened

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS, FLOATS, st.integers(1, 30))
def test_any_bounds_give_a_bounded_number_of_ticks_inside(
    one: float, other: float, count: int
) -> None:
    low, high = widened(min(one, other), max(one, other))
    assert low < high and math.isfinite(low) and math.isfinite(high)
    for make in (linear_ticks, clock_ticks, span_ticks):
        ticks = make(low, high, count)
        assert len(ticks) <= 2 * count + 1
        slack = 1e-6 * max(abs(low), abs(high), 86400)
        assert all(low - slack <= value <= high + slack and label for value, label in ticks)


@given(st.floats(-320, 308), st.floats(1e-6, 600), st.integers(1, 30))
def test_any_decades_have_labels_in_order(low: float, span: float, count: int) -> None:
    ticks = log_ticks(low, min(low + span, 308.0) if low < 308 else low + 1e-6, count)
    values = [value for value, _ in ticks]
    assert values == sorted(values) and all(label for _, label in ticks)


@pytest.mark.parametrize(
    ("low", "high", "count", "labels"),
    [
        (0.0, 4000.0, 4, ["0", "1000", "2000", "3000", "4000"]),
        (0.0, 40_000.0, 4, ["0", "10k", "20k", "30k", "40k"]),
        (0.0, 2e6, 2, ["0", "1000k", "2000k"]),
        (0.3, 1.1, 4, ["0.4", "0.6", "0.8", "1.0"]),
        (1e-5, 9e-5, 5, ["2e-5", "4e-5", "6e-5", "8e-5"]),
        (0.0, 1.5e-4, 3, ["0", "5.0e-5", "1.0e-4", "1.5e-4"]),
        (-3.0, 3.0, 3, ["-2", "0", "2"]),
    ],
)
def test_linear_labels(low: float, high: float, count: int, labels: list[str]) -> None:
    assert [label for _, label in linear_ticks(low, high, count)] == labels


def test_spans_and_clocks_are_round() -> None:
    assert [label for _, label in span_ticks(0, 7200, 4)] == ["0", "30m", "1h", "1h30m", "2h"]
    assert all(label.endswith(("00", "30")) for _, label in clock_ticks(1.7e9, 1.7e9 + 7200, 4))
    assert [label for _, label in log_ticks(-2, 2, 5)] == ["0.01", "0.1", "1", "10", "100"]
