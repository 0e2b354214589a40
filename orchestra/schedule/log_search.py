"""Searching logs of any size for a string, in slices: whoever asks may do other things in between,
or never ask again.

No slice holds the interpreter for longer than one chunk takes, so that other threads go on. A
string without capitals finds both cases (of ASCII letters). What was overwritten or stands in an
escape sequence is not found: only what is shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.schedule.log_file import Line, OpenLog, open_log
from orchestra.schedule.log_view import Place
from orchestra.wire.terminal import plain

_CHUNK_BYTES = 1 << 18


def found_in(needle: str, text: str) -> bool:
    """Smart case: a needle with capitals means them."""
    return needle in text or (needle == needle.lower() and needle in text.lower())


def spans(needle: str, text: str) -> list[tuple[int, int]]:
    """Where it is in a text, from and to."""
    if not needle:
        return []
    flags = re.IGNORECASE if needle == needle.lower() else 0
    return [match.span() for match in re.finditer(re.escape(needle), text, flags)]


@dataclass
class Search:
    """One search from a place on; `forward` False: for what is before it."""

    paths: Mapping[str, Path]
    needle: str
    place: Place
    forward: bool = True
    searched_bytes: int = 0
    _scans: dict[str, _Scan] = field(default_factory=dict)

    def advance(self, budget_s: float) -> bool:
        """Search for about so long; True once it is over, see `hit`."""
        deadline = time.monotonic() + budget_s
        for name, path in self.paths.items():
            with open_log(name, path) as log:
                if log is None:
                    continue
                scan = self._scans.get(name)
                if scan is None:
                    scan = self._scans[name] = _Scan(self.needle, self.forward, log, self.place)
                while not scan.over:
                    self.searched_bytes += scan.step(log)
                    if time.monotonic() >= deadline:
                        return False
        return True

    @property
    def hit(self) -> Line | None:
        """The nearest line that contains it, by the time it begins with; None: there is none."""
        hits = [scan.hit for scan in self._scans.values() if scan.hit is not None]
        if not hits:
            return None
        return (min if self.forward else max)(hits, key=lambda line: line.stamp)


class _Scan:
    """The search in one file, chunk by chunk."""

    def __init__(self, needle: str, forward: bool, log: OpenLog, place: Place) -> None:
        self._forward = forward
        self._text = needle
        self._needle = needle.encode(errors="surrogateescape")
        self._any_case = needle == needle.lower()
        self._at = min(place.get(log.name, 0 if forward else log.size), log.size)
        self.hit: Line | None = None
        self.over = not self._needle

    def step(self, log: OpenLog) -> int:
        """One chunk; returns how many bytes are done with."""
        before = self._at
        start, end = self._bounds(log)
        chunk = log.read(start, end)
        if self._any_case:
            chunk = chunk.lower()
        found = chunk.find(self._needle) if self._forward else chunk.rfind(self._needle)
        if found >= 0:
            self._look_at(log, start + found)
        else:
            overlap = len(self._needle) - 1
            self._at = end - overlap if self._forward else start + overlap
            self.over = end >= log.size if self._forward else start == 0
        return abs(self._at - before)

    def _bounds(self, log: OpenLog) -> tuple[int, int]:
        size = _CHUNK_BYTES + len(self._needle)
        if self._forward:
            return self._at, min(self._at + size, log.size)
        return max(0, self._at - size), self._at

    def _look_at(self, log: OpenLog, offset: int) -> None:
        """Is it seen in the line shown? Else go on behind (or before) the line."""
        line = log.line_at(offset)
        if found_in(self._text, plain(line.text)):
            self.hit, self.over = line, True
        elif self._forward:
            self._at = line.end
        else:
            self._at = line.start
            self.over = line.start == 0
