"""Where an axis has its ticks and how they are written. Pure."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence

_MOST = sys.float_info.max
_CLOCK_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400),
)
_LATEST_S = 1e11  # the year 5138

Tick = tuple[float, str]


def widened(low: float, high: float) -> tuple[float, float]:
    """Bounds that a scale can be made of: those of a flat curve get some room."""
    scale = max(abs(low), abs(high))
    if high - low > max(scale * 1e-9, 1e-290):
        return low, high
    room = scale * 0.1 if scale > 1e-280 else 1.0
    return max(low - room, -_MOST), min(high + room, _MOST)


def linear_ticks(low: float, high: float, count: int) -> list[Tick]:
    """At most about `count` round numbers between two bounds."""
    step = _round_up((high / count) - (low / count))
    if not math.isfinite(step) or step <= 0:
        return []
    values = [position * step for position in _positions(low, high, step, count)]
    return list(zip(values, _labels(values, step), strict=True))


def log_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Powers of ten between two exponents, and 2 and 5 times those where there is room.

    Values are exponents, labels the numbers.
    """
    first, last = math.floor(low), math.ceil(high)
    every = max(1, math.ceil((high - low) / max(count, 1)))
    factors = (1, 2, 5) if (high - low) * 3 <= count else (1,)
    found = []
    for exponent in range(first - first % every, last + 1, every):
        for factor in factors:
            value = exponent + math.log10(factor)
            if low - 1e-9 <= value <= high + 1e-9:
                found.append((value, _power(factor, exponent)))
    # Less than a step of these: round numbers between them.
    return found if len(found) > 1 else _between(low, high, count)


def clock_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Unix times at round local hours, minutes or days."""
    if not _is_time(low, high):
        return []
    step = _clock_step((high - low) / count)
    offset = time.localtime(low).tm_gmtoff
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
    positions = _positions(low + offset, high + offset, step, count)
    times_s = [position * step - offset for position in positions]
    return [(time_s, time.strftime(form, time.localtime(time_s))) for time_s in times_s]


def span_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Seconds at round durations."""
    if not _is_time(low, high):
        return []
    step = _clock_step((high - low) / count)
    seconds = [position * step for position in _positions(low, high, step, count)]
    return [(second, span(second)) for second in seconds]


def moment(time_s: float) -> str:
    """A Unix time in local words."""
    if not _is_time(time_s, time_s):
        return f"{time_s:g} s"
    return time.strftime("%d %b %H:%M:%S", time.localtime(time_s))


def span(seconds: float) -> str:
    """`2h30m`, `45s`, without parts that are zero."""
    if not _is_time(seconds, seconds):
        return f"{seconds:g}s"
    whole = int(abs(seconds))
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (whole % 60, "s"))
    text = "".join(f"{value}{unit}" for value, unit in parts if value) or "0"
    return f"-{text}" if seconds <= -1 else text


def _positions(low: float, high: float, step: float, count: int) -> range:
    """Of the multiples of a step between two bounds; twice as many as asked for at most."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return range(first, min(last, first + 2 * count) + 1)


def _is_time(low: float, high: float) -> bool:
    """Whether a calendar knows these seconds, and durations can be told."""
    return max(abs(low), abs(high)) < _LATEST_S


def _labels(values: Sequence[float], step: float) -> list[str]:
    most = max(map(abs, values), default=0.0)
    if step == int(step) and most < 1e13:
        sizes = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
        size, unit = next(((one, name) for one, name in sizes if most >= 10 * one), (1.0, ""))
        return [f"{value / size:.6g}{unit}" if value else "0" for value in values]
    if most >= 1e6 or step < 1e-4:
        digits = math.floor(math.log10(most or step)) - math.floor(math.log10(step) + 1e-9)
        return [_short(f"{value:.{min(max(digits, 0), 8)}e}") if value else "0" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:.{decimals}f}" for value in values]


def _short(text: str) -> str:
    """`9e-05` as `9e-5`."""
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}"


def _round_up(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ..."""
    if not (math.isfinite(step) and step > 0):
        return 0.0
    power = 10.0 ** math.floor(math.log10(step))
    if power <= 0:
        return 0.0
    return next((power * factor for factor in (1, 2, 5) if power * factor >= step), power * 10)


def _clock_step(least_s: float) -> float:
    for step in _CLOCK_S:
        if step >= least_s:
            return step
    return max(86400.0, 86400 * _round_up(least_s / 86400))


def _power(factor: int, exponent: int) -> str:
    if -4 <= exponent <= 4:
        return f"{factor * 10.0**exponent:.{max(0, -exponent)}f}"
    return f"{factor}e{exponent}"


def _between(low: float, high: float, count: int) -> list[Tick]:
    bottom, top = 10.0 ** max(low, -300), 10.0 ** min(high, 300)
    return [
        (math.log10(value), label) for value, label in linear_ticks(bottom, top, count) if value > 0
    ]
