"""One log file by byte offsets: lines before or after one, whatever the file's size.

Nothing is remembered between calls: the file may grow, be cut, be replaced or vanish. Only what is
asked for is read and decoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from orchestra.wire.errors import OrchestraError
from orchestra.wire.terminal import LONGEST_LINE, collapse

BLOCK_BYTES = 1 << 16
#: Of longer lines only the beginning is decoded.
_LONG_BYTES = LONGEST_LINE * 4
_BEGINNING_BYTES = LONGEST_LINE - 60
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[,.](\d{3})\b")


@dataclass(frozen=True)
class Line:
    """One line of a file, as it was written but without what was overwritten (see `collapse`)."""

    log: str
    """Name of the log: `rank0`, `launcher`, ..."""
    start: int
    end: int
    """Byte offset behind its line break."""
    text: str
    whole: bool
    """False: the file ends in it, without a line break."""

    @property
    def stamp(self) -> str:
        """The time it begins with, in a form that sorts; empty if it begins otherwise."""
        found = _STAMP.match(self.text)
        return f"{found[1]},{found[2]}" if found else ""

    @property
    def said(self) -> str:
        """The text without the time it begins with."""
        found = _STAMP.match(self.text)
        return self.text[found.end() :] if found else self.text


@dataclass(frozen=True)
class Mark:
    """What tells that a file was cut or replaced: its inode, and its size when it was read."""

    inode: int
    size: int

    def still_holds(self, now: Mark) -> bool:
        """Whether the file has only grown since."""
        return self.inode == now.inode and self.size <= now.size


class OpenLog:
    """A file while it is read. Use `open_log`."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd
        status = os.fstat(fd)
        self.mark = Mark(status.st_ino, status.st_size)
        self.written_s = status.st_mtime

    @property
    def size(self) -> int:
        return self.mark.size

    def read(self, start: int, end: int) -> bytes:
        """Bytes up to `end`, or to the end of the file."""
        return os.pread(self._fd, max(0, min(end, self.size) - start), start)

    def before(self, end: int, count: int) -> list[Line]:
        """The last `count` lines that begin before `end`, where a line begins or the file ends."""
        end = min(end, self.size)
        starts: list[int] = []
        block = (end - 1) // BLOCK_BYTES
        while block >= 0 and len(starts) < count:
            here = [start for start in self._starts(block) if start < end]
            starts = here[-(count - len(starts)) :] + starts
            block -= 1
        return self._lines([*starts, end])

    def after(self, start: int, count: int) -> list[Line]:
        """The first `count` lines from `start` on, where a line begins."""
        bounds = [start]
        block = start // BLOCK_BYTES
        while len(bounds) <= count and block * BLOCK_BYTES < self.size:
            bounds += [begin for begin in self._starts(block) if begin > start]
            block += 1
        if len(bounds) <= count and bounds[-1] < self.size:
            bounds.append(self.size)
        return self._lines(bounds[: count + 1])

    def line_at(self, offset: int) -> Line:
        """The line which that byte belongs to."""
        return self.after(self.start_of_line(offset), 1)[0]

    def start_of_line(self, offset: int) -> int:
        """Where the line begins which that byte belongs to."""
        for block in range(offset // BLOCK_BYTES, -1, -1):
            for start in reversed(self._starts(block)):
                if start <= offset:
                    return start
        return 0

    def _starts(self, block: int) -> list[int]:
        """Where lines begin in a block.

        A block without any line break ends one: lines have at most two blocks, and where they begin
        is told by the two blocks around, not by all of the file.
        """
        first = block * BLOCK_BYTES
        data = self.read(first, first + BLOCK_BYTES)
        begins = first == 0 or self._breaks_at(first)
        starts = [first] if begins and data else []
        at = data.find(b"\n")
        while at >= 0:
            starts.append(first + at + 1)
            at = data.find(b"\n", at + 1)
        if starts and starts[-1] in (self.size, first + BLOCK_BYTES):
            starts.pop()  # the next block's
        return starts

    def _breaks_at(self, first: int) -> bool:
        """Whether a line ends where a block begins."""
        data = self.read(first - BLOCK_BYTES, first)
        return data.endswith(b"\n") or b"\n" not in data

    def _lines(self, bounds: list[int]) -> list[Line]:
        if len(bounds) < 2:
            return []
        data = self.read(bounds[0], bounds[-1])
        lines = []
        for start, end in pairwise(bounds):
            raw = data[start - bounds[0] : end - bounds[0]]
            whole = raw.endswith(b"\n") or end < self.size
            lines.append(Line(self.name, start, end, decoded(raw), whole))
        return lines


def decoded(raw: bytes) -> str:
    """The text that is left of a line, not more of it than can be shown; still to be cleaned."""
    raw = raw.rstrip(b"\r\n")
    shown = raw[raw.rfind(b"\r") + 1 :]
    if len(shown) <= _LONG_BYTES:
        return collapse(shown.decode(errors="replace"))
    beginning = shown[:_BEGINNING_BYTES].decode(errors="replace")
    return collapse(f"{beginning} ... {len(shown) - _BEGINNING_BYTES} bytes cut")


@contextmanager
def open_log(name: str, path: Path) -> Iterator[OpenLog | None]:
    """The file for reading; None where there is none (OrchestraError: it can't be read)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise OrchestraError(f"cannot read {path}: {error.strerror}") from error
    try:
        yield OpenLog(name, fd)
    finally:
        os.close(fd)
