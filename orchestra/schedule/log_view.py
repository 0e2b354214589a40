"""A window over one log or several as one, for scrolling: lines before or after a place.

Several logs are put in one order by the time their lines begin with. Lines without one (prints,
tracebacks) stay behind the line before them; a log in which no line of the window has a time comes
where it was last written. No line is lost, doubled or moved within its own log.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from orchestra.schedule.log_file import BLOCK_BYTES, Line, Mark, OpenLog, open_log

_NEAR_LINES = 100  # among so many one begins with a time, if any does

Place = Mapping[str, int]
"""Between two lines: for each log the byte offset of its next line."""


@dataclass(frozen=True)
class Window:
    """Lines in order, where they begin and end, and what the files were when they were read."""

    lines: tuple[Line, ...]
    top: Place
    bottom: Place
    """Behind the last whole line: a line that is still being written is read again."""
    marks: Mapping[str, Mark]

    @property
    def at_start(self) -> bool:
        """Whether nothing is before it."""
        return not any(self.top.values())

    @property
    def end(self) -> dict[str, int]:
        """Behind the last line, whole or not."""
        return {**self.bottom, **{line.log: line.end for line in self.lines}}

    @property
    def at_end(self) -> bool:
        """Whether nothing was behind it when it was read."""
        return all(self.end.get(name, 0) >= mark.size for name, mark in self.marks.items())

    def then(self, later: Window) -> Window:
        """This one and the one behind it."""
        bottom = {**self.bottom, **later.bottom}
        return Window((*self.lines, *later.lines), {**later.top, **self.top}, bottom, later.marks)

    def without_first(self, count: int) -> Window:
        """Some lines shorter."""
        dropped = {line.log: line.end for line in self.lines[:count]}
        return replace(self, lines=self.lines[count:], top={**self.top, **dropped})

    def without_last(self, count: int) -> Window:
        """Some lines shorter."""
        kept = len(self.lines) - count
        dropped = {line.log: line.start for line in reversed(self.lines[kept:])}
        return replace(self, lines=self.lines[:kept], bottom={**self.bottom, **dropped})

    def whole(self) -> Window:
        """Without lines that are still being written."""
        return replace(self, lines=tuple(line for line in self.lines if line.whole))


class LogView:
    """Logs by name, in the order in which lines of the same moment are shown."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def last(self, count: int) -> Window:
        """The end."""
        return self._read(None, count, 0)

    def first(self, count: int) -> Window:
        """The beginning."""
        return self._read({}, 0, count)

    def before(self, place: Place, count: int) -> Window:
        """The lines before a place."""
        return self._read(place, count, 0)

    def after(self, place: Place, count: int) -> Window:
        """The lines after a place."""
        return self._read(place, 0, count)

    def around(self, name: str, offset: int, count: int) -> Window:
        """Lines around one of a log; of the others those of the same time."""
        with ExitStack() as stack:
            place = _place_of(self._open(stack), name, offset)
        return self._read(place, count, count)

    def marks(self) -> dict[str, Mark]:
        """What the files are now."""
        with ExitStack() as stack:
            return {name: log.mark for name, log in self._open(stack).items()}

    @property
    def paths(self) -> Mapping[str, Path]:
        """As given."""
        return self._paths

    def _open(self, stack: ExitStack) -> dict[str, OpenLog]:
        opened = {
            name: stack.enter_context(open_log(name, path)) for name, path in self._paths.items()
        }
        return {name: log for name, log in opened.items() if log is not None}

    def _read(self, place: Place | None, before: int, after: int) -> Window:
        """`place` None: the end."""
        with ExitStack() as stack:
            logs = self._open(stack)
            here = {
                name: log.size if place is None else min(place.get(name, 0), log.size)
                for name, log in logs.items()
            }
            written = {name: _stamp(log.written_s) for name, log in logs.items()}
            earlier = _merged(written, {n: log.before(here[n], before) for n, log in logs.items()})
            later = _merged(written, {n: log.after(here[n], after) for n, log in logs.items()})
            lines = (*earlier[max(0, len(earlier) - before) :], *later[:after])
            top, bottom = ends(lines, here)
            return Window(lines, top, bottom, {name: log.mark for name, log in logs.items()})


def ends(lines: Sequence[Line], here: Place) -> tuple[dict[str, int], dict[str, int]]:
    """The places before and behind lines; of a log without any of them it is `here`."""
    top, bottom = dict(here), dict(here)
    for line in reversed(lines):
        top[line.log] = line.start
    for line in lines:
        bottom[line.log] = line.end if line.whole else line.start
    return top, bottom


def _merged(written: Mapping[str, str], lines: Mapping[str, list[Line]]) -> list[Line]:
    keyed = [list(_keyed(of, written[name])) for name, of in lines.items()]
    return [line for _, line in heapq.merge(*keyed, key=lambda pair: pair[0])]


def _keyed(lines: Sequence[Line], written: str) -> Iterator[tuple[str, Line]]:
    """Each line with the time it belongs to: its own, or that of the line before it."""
    stamps = [line.stamp for line in lines]
    key = next(filter(None, stamps), written)
    for stamp, line in zip(stamps, lines, strict=True):
        key = max(key, stamp)
        yield key, line


def _place_of(logs: Mapping[str, OpenLog], name: str, offset: int) -> dict[str, int]:
    """Where the line of that byte begins, and in the other logs what was written then."""
    place = {other: log.size for other, log in logs.items()}
    if name not in logs or not logs[name].size:
        return place
    start = logs[name].start_of_line(min(offset, logs[name].size - 1))
    near = [*logs[name].before(start, _NEAR_LINES), *logs[name].after(start, 1)]
    stamp = next((line.stamp for line in reversed(near) if line.stamp), "")
    if stamp:
        place = {other: offset_of_time(log, stamp) for other, log in logs.items()}
    return {**place, name: start}


def offset_of_time(log: OpenLog, stamp: str) -> int:
    """Where the first line begins that says that time or a later one; its end if none does.

    A bisection: times are taken to grow within a file.
    """
    low, high = 0, log.size
    while high - low > BLOCK_BYTES:
        middle = log.start_of_line((low + high) // 2)
        if middle <= low:
            break
        found = next((line.stamp for line in log.after(middle, _NEAR_LINES) if line.stamp), stamp)
        low, high = (middle, high) if found < stamp else (low, middle)
    while lines := log.after(low, _NEAR_LINES):
        for line in lines:
            if line.stamp >= stamp:
                return line.start
        low = lines[-1].end
    return log.size


def _stamp(time_s: float) -> str:
    """A Unix time in the form of `Line.stamp`."""
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))
    return f"{whole},{int(time_s % 1 * 1000):03d}"
