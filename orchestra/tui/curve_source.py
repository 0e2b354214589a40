"""What the curves pane draws, read from the runs' metric stores; lives in the reader's thread.

Reads only. Keeps the newest stores open, so that only what was written since is read.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from orchestra.registry.curves import Curve, CurveReader
from orchestra.registry.metrics import Bucket, MetricStore
from orchestra.tui.lines import Line, Mark, XAxis
from orchestra.wire.errors import OrchestraError

EPOCH = "train/epoch"
_MOST_STORES = 16
_MOST_PARTS = 32  # zoomed readers in each store
_FIRST_LOOK_S = 0.05
_NEXT_LOOK_S = 0.15  # others wait for the thread as long, but each look is drawn, which costs too

Steps = tuple[int, int]


@dataclass(frozen=True)
class Wanted:
    """One run's store, and when the run began (None: with its first point)."""

    run_id: str
    path: Path
    started_at: float | None


@dataclass(frozen=True)
class Question:
    """What is to be drawn."""

    runs: tuple[Wanted, ...]
    keys: tuple[str, ...]
    axis: XAxis
    shown: tuple[float, float] | None
    """The part of the x axis; None: all."""


@dataclass(frozen=True)
class Look:
    """The answer. Lines have no name and no colour yet; those that did not change are the same
    objects as in the answer before."""

    question: Question
    keys: tuple[str, ...]
    """All series of these runs."""
    lines: dict[tuple[str, str], Line]
    """By run id and series."""
    problems: dict[str, str]
    """By run id: why it has no curve."""
    exact: bool
    """False: ask again, there is more to read."""


class CurveSource:
    """Use it in one thread."""

    def __init__(self) -> None:
        self._runs: OrderedDict[Path, _RunCurves] = OrderedDict()
        self._question: Question | None = None

    def look(self, question: Question) -> Look:
        """Read what is new, for a moment only however many runs there are; a store that can't be
        read is a sentence in the answer."""
        asked_again = question == self._question
        self._question = question
        deadline = time.monotonic() + (_NEXT_LOOK_S if asked_again else _FIRST_LOOK_S)
        keys: set[str] = set()
        lines: dict[tuple[str, str], Line] = {}
        problems: dict[str, str] = {}
        exact = True
        for wanted in question.runs:
            try:
                curves = self._curves(wanted)
                keys.update(curves.keys())
                for key in question.keys:
                    line, whole = curves.line(key, question.axis, question.shown, deadline)
                    lines[wanted.run_id, key] = line
                    exact = exact and whole
            except OrchestraError as error:
                problems[wanted.run_id] = str(error)
                self._forget(wanted.path)
        return Look(question, tuple(sorted(keys)), lines, problems, exact)

    def close(self) -> None:
        """Close all files."""
        for path in list(self._runs):
            self._forget(path)

    def _curves(self, wanted: Wanted) -> _RunCurves:
        if wanted.path not in self._runs:
            self._runs[wanted.path] = _RunCurves(wanted.path)
        self._runs.move_to_end(wanted.path)
        while len(self._runs) > _MOST_STORES:
            self._forget(next(iter(self._runs)))
        curves = self._runs[wanted.path]
        curves.started_at = wanted.started_at
        return curves

    def _forget(self, path: Path) -> None:
        self._runs.pop(path).close()


class _RunCurves:
    """The open store of one run."""

    def __init__(self, path: Path) -> None:
        self.started_at: float | None = None
        self._store = MetricStore(path)
        self._whole: dict[str, CurveReader] = {}
        self._parts: OrderedDict[tuple[str, Steps], CurveReader] = OrderedDict()
        self._lines: dict[str, tuple[tuple[object, ...], Line]] = {}
        self._keys: tuple[tuple[int, int] | None, list[str]] = (None, [])

    def close(self) -> None:
        self._store.close()

    def keys(self) -> list[str]:
        stamp = self._store.stamp()
        if stamp != self._keys[0]:
            self._keys = (stamp, self._store.keys())
        return self._keys[1]

    def line(
        self, key: str, axis: XAxis, shown: tuple[float, float] | None, deadline: float
    ) -> tuple[Line, bool]:
        """The line, and whether it is exact."""
        curve = _until(self._whole_reader(key), deadline)
        clock = _until(self._whole_reader(EPOCH), deadline) if axis is XAxis.EPOCH else None
        part = None
        if shown is not None:
            reader = self._part_reader(curve, _Scale(axis, self.started_at, curve, clock), shown)
            part = None if reader is None else _until(reader, deadline)
        exact = all(one is None or one.exact for one in (curve, clock, part))
        if part is not None and not part.exact:
            part = None  # until all of it is read, the coarser curve
        made_of = (curve, clock, part, axis, self.started_at)
        before = self._lines.get(key)
        if before is None or any(a is not b for a, b in zip(before[0], made_of, strict=True)):
            scale = _Scale(axis, self.started_at, curve, clock)
            self._lines[key] = (made_of, _line(curve, part, scale))
        return self._lines[key][1], exact

    def _whole_reader(self, key: str) -> CurveReader:
        if key not in self._whole:
            self._whole[key] = CurveReader(self._store, key)
        return self._whole[key]

    def _part_reader(
        self, curve: Curve, scale: _Scale, shown: tuple[float, float]
    ) -> CurveReader | None:
        """Finer buckets of what is shown; None where the whole curve has every point of it."""
        within = [one for one in curve.buckets if shown[0] <= scale.x(one) <= shown[1]]
        if all(one.points == 1 for one in within) and curve.exact:
            return None
        steps = _aligned(within, curve.buckets)
        if (key := (curve.key, steps)) not in self._parts:
            self._parts[key] = CurveReader(self._store, curve.key, steps)
        self._parts.move_to_end(key)
        while len(self._parts) > _MOST_PARTS:
            self._parts.popitem(last=False)
        return self._parts[key]


def _until(reader: CurveReader, deadline: float) -> Curve:
    return reader.read(max(deadline - time.monotonic(), 0.0))


def _aligned(within: Sequence[Bucket], buckets: Sequence[Bucket]) -> Steps:
    """The steps of these buckets and some around: a small move asks for the same ones again."""
    if not within:
        return buckets[0].first_step, buckets[0].last_step
    low = min(one.first_step for one in within)
    high = max(one.last_step for one in within)
    grain = 1 << max((high - low).bit_length() - 2, 0)
    return low // grain * grain - grain, (high // grain + 2) * grain - 1


class _Scale:
    """Where a bucket lies on the x axis."""

    def __init__(
        self, axis: XAxis, started_at: float | None, curve: Curve, clock: Curve | None
    ) -> None:
        self._axis = axis
        self.is_time = axis in (XAxis.TIME, XAxis.RELATIVE)
        first_s = min((one.time_s for one in curve.buckets), default=0.0)
        self._start_s = first_s if started_at is None else min(started_at, first_s)
        epochs = [] if clock is None else [one for one in clock.buckets if not one.superseded]
        self._steps = [one.last_step for one in epochs]
        self._epochs = [one.high for one in epochs]

    def x(self, bucket: Bucket) -> float:
        """NaN where it has no place."""
        if self._axis is XAxis.TIME:
            return bucket.time_s
        if self._axis is XAxis.RELATIVE:
            return bucket.time_s - self._start_s
        middle = (bucket.first_step + bucket.last_step) / 2
        return middle if self._axis is XAxis.STEP else self.epoch(middle)

    def epoch(self, step: float) -> float:
        """Between the epochs on record around a step; NaN where none is."""
        if not self._steps:
            return math.nan
        index = bisect.bisect_left(self._steps, step)
        if index == len(self._steps):
            return self._epochs[-1]
        # Before the first one: epochs begin at step 0.
        before, epoch = (self._steps[index - 1], self._epochs[index - 1]) if index else (0, 0.0)
        share = (step - before) / ((self._steps[index] - before) or 1)
        return epoch + share * (self._epochs[index] - epoch)


def _line(curve: Curve, part: Curve | None, scale: _Scale) -> Line:
    buckets: Sequence[Bucket] = curve.buckets
    if part is not None and part.buckets:
        low = min(one.first_step for one in part.buckets)
        high = max(one.last_step for one in part.buckets)
        buckets = [
            *(one for one in buckets if one.last_step < low),
            *part.buckets,
            *(one for one in buckets if one.first_step > high),
        ]
    superseded: dict[int, list[Mark]] = {}
    current: list[Mark] = []
    began: dict[int, float] = {}
    if scale.is_time:  # between two attempts nobody trained: no line there
        current += _gaps(curve, scale)
    for bucket in buckets:
        mark = _mark(bucket, scale.x(bucket))
        if math.isfinite(mark.x):
            began[bucket.attempt] = min(began.get(bucket.attempt, math.inf), mark.x)
            marks = superseded.setdefault(bucket.attempt, []) if bucket.superseded else current
            marks.append(mark)
    return Line(
        name="",
        colour=0,
        marks=tuple(sorted(current)),
        superseded=[tuple(sorted(marks)) for marks in superseded.values()],
        restarts=[(x, attempt) for attempt, x in began.items() if attempt > 1],
        last=None if curve.newest is None else curve.newest.value,
    )


def _gaps(curve: Curve, scale: _Scale) -> Iterator[Mark]:
    current = [bucket for bucket in curve.buckets if not bucket.superseded]
    for before, after in pairwise(current):
        if before.attempt != after.attempt:
            x = (scale.x(before) + scale.x(after)) / 2
            yield Mark(x, math.nan, math.nan, math.nan, False)


def _mark(bucket: Bucket, x: float) -> Mark:
    return Mark(x, bucket.low, bucket.high, bucket.mean, bucket.not_finite > 0)


def named(line: Line, name: str, colour: int, *, stale: bool = False) -> Line:
    """The line as one of a picture."""
    return replace(line, name=name, colour=colour, stale=stale)
