"""A series as few buckets, however many points it has; kept up with a store that is written.

Reads only, in one thread. A bucket is `width` steps, a power of two, so that a run that grows
never makes it read old points again: two neighbours become one. What is not summed up yet is
shown thinned, so that the first picture takes milliseconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestra.registry.metrics import Bucket, MetricStore, Point

MOST_BUCKETS = 1024
"""More than a terminal has columns of dots."""
_FIRST_LOOK = 400


@dataclass(frozen=True)
class Curve:
    """A series at one moment. `buckets` by step; those that were superseded are among them."""

    key: str
    buckets: tuple[Bucket, ...] = ()
    starts: tuple[tuple[int, int], ...] = ()
    """Attempts and the step that each went on from."""
    newest: Point | None = None
    exact: bool = True
    """False: later buckets are single points until more is read."""


class CurveReader:
    """One series of a store, all of it or the steps from `steps[0]` to `steps[1]`."""

    def __init__(self, store: MetricStore, key: str, steps: tuple[int, int] | None = None) -> None:
        self._store = store
        self._steps = steps
        self._curve = Curve(key)
        self._stamp: tuple[int, int] | None = None
        self._width = 1
        self._done: list[Bucket] = []
        self._next: int | None = None  # the number of the first bucket not summed up yet
        # New points come behind this step: behind it, an attempt passes what it superseded.
        self._settled: int | None = None
        self._points: list[Point] | None = None

    def read(self, budget_s: float = 0.05) -> Curve:
        """What is new since the last call, for about so long; the same object if nothing is.

        Raises:
            OrchestraError: the store is damaged, of a newer orchestra, or can't be read.
        """
        stamp = self._store.stamp()
        if stamp == self._stamp and self._curve.exact:
            return self._curve
        deadline = time.monotonic() + budget_s
        key = self._curve.key
        starts = tuple(self._store.starts())
        if starts != self._curve.starts or (stamp or (0,))[0] != (self._stamp or (0,))[0]:
            self._forget()  # another attempt superseded points, or it is another file
        newest = self._store.newest(key)  # before the buckets: what comes meanwhile counts as new
        ends = self._store.ends(key)
        exact = True
        if ends is not None:
            exact = self._advance(*self._part(*ends), deadline)
        buckets: Sequence[Bucket] = self._done
        if not exact:
            buckets = [*self._done, *self._thinned()]
        self._curve = Curve(key, tuple(buckets), starts, newest, exact)
        self._stamp = stamp
        self._settled = None if newest is None else newest.step
        return self._curve

    def _forget(self) -> None:
        self._width, self._done, self._points = 1, [], None
        self._next = self._settled = None

    def _part(self, low: int, high: int) -> tuple[int, int]:
        if self._steps is None:
            return low, high
        return max(low, self._steps[0]), min(high, self._steps[1])

    def _advance(self, low: int, high: int, deadline: float) -> bool:
        """Sum up bucket after bucket; False if the time was over before the last one."""
        while (high - low) // self._width >= MOST_BUCKETS:
            self._double()
        width = self._width
        number = low // width
        if self._next is not None and self._settled is not None:
            number = max(number, min(self._next, self._settled // width))
        self._drop(number)
        begun = False
        while number * width <= high:
            if begun and time.monotonic() > deadline:
                return False
            first, end = max(number * width, low), (number + 1) * width
            end = end if self._steps is None else min(end, high + 1)
            self._done += self._store.bucket(self._curve.key, first, end)
            self._next = number = number + 1
            begun = True
        return True

    def _drop(self, number: int) -> None:
        """Forget the buckets from this number on."""
        first = number * self._width
        while self._done and self._done[-1].first_step >= first:
            self._done.pop()

    def _double(self) -> None:
        self._width *= 2
        self._done = merged(self._done, self._width)
        self._next = None if self._next is None else self._next // 2

    def _thinned(self) -> list[Bucket]:
        """What is beyond the buckets, as a few single points. A zoomed part has none: whoever
        asks for it has the whole curve."""
        if self._steps is not None:
            return []
        if self._points is None:
            self._points = self._store.series(self._curve.key, max_points=_FIRST_LOOK)
        last = self._done[-1].last_step if self._done else -1
        return [_single(point) for point in self._points if point.step > last]


def merged(buckets: Iterable[Bucket], width: int) -> list[Bucket]:
    """Buckets of so many steps made of smaller ones, by step."""
    groups: dict[tuple[int, bool, int], list[Bucket]] = {}
    for bucket in buckets:
        group = (bucket.first_step // width, not bucket.superseded, bucket.attempt)
        groups.setdefault(group, []).append(bucket)
    return [_sum(groups[group]) for group in sorted(groups)]


def _sum(parts: Sequence[Bucket]) -> Bucket:
    finite = [part for part in parts if part.points > part.not_finite]
    count = sum(part.points - part.not_finite for part in finite)
    points = sum(part.points for part in parts)
    return Bucket(
        first_step=parts[0].first_step,
        last_step=parts[-1].last_step,
        time_s=sum(part.time_s * part.points for part in parts) / points,
        low=min((part.low for part in finite), default=math.nan),
        high=max((part.high for part in finite), default=math.nan),
        mean=sum(part.mean * ((part.points - part.not_finite) / count) for part in finite)
        if count
        else math.nan,
        points=points,
        not_finite=sum(part.not_finite for part in parts),
        attempt=parts[0].attempt,
        superseded=parts[0].superseded,
    )


def _single(point: Point) -> Bucket:
    finite = math.isfinite(point.value)
    value = point.value if finite else math.nan
    return Bucket(
        *(point.step, point.step, point.time_s, value, value, value),
        *(1, int(not finite), point.attempt, point.superseded),
    )
