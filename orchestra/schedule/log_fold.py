"""Several ranks that say the same are shown once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestra.schedule.log_file import Line

_BACK = 400
"""So many lines back the same words are one saying."""
_SAME = 16  # sayings of the same words that wait for other ranks


@dataclass(frozen=True)
class Said:
    """What one rank said or several: their lines, the first one in front."""

    lines: list[Line]

    @property
    def line(self) -> Line:
        """The one to be shown."""
        return self.lines[0]

    @property
    def logs(self) -> list[str]:
        """Who said it."""
        return [line.log for line in self.lines]


def fold(lines: Iterable[Line]) -> list[Said]:
    """Identical lines of different ranks as one, but for the time they begin with.

    A rank's own lines keep their order and their number: none is folded into one that stands before
    an earlier line of the same rank.
    """
    said: list[Said] = []
    newest: dict[str, list[int]] = {}  # of these words: where they were said
    reached: dict[str, int] = {}  # of this log: where its last line stands
    for line in lines:
        words = line.said
        for at in newest.get(words, []) if line.log.startswith("rank") else []:
            first = said[at]
            if at > reached.get(line.log, -1) and at >= len(said) - _BACK and _rank(first.line):
                first.lines.append(line)
                reached[line.log] = at
                break
        else:
            reached[line.log] = len(said)
            places = newest.setdefault(words, [])
            places.append(len(said))
            del places[:-_SAME]
            said.append(Said([line]))
    return said


def label(logs: Iterable[str]) -> str:
    """`0`, `0-3`, `0,2`; other logs by their name."""
    names = list(logs)
    ranks = sorted(int(name[4:]) for name in names if name.startswith("rank"))
    parts = [name for name in names if not name.startswith("rank")]
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ",".join([*parts, *(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)])


def _rank(line: Line) -> bool:
    return line.log.startswith("rank")
