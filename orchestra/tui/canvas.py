"""A picture in characters: lines of dots, several dots to a character. Pure; knows no metrics.

Cells are opaque: what is drawn last owns a cell and its colour, so that curves which cross keep
theirs. Coordinates are in dots from the top left corner; what is not finite or lies outside is
not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from orchestra.tui.looks import wants_ascii

TEXT = -1
"""Instead of a series: labels and axes."""
ALARM = -2
"""Instead of a series: what must be noticed."""

_FAR = 1e6  # dots; no sum of such coordinates loses a dot
_EMPTY = (TEXT, False)


class Glyphs(StrEnum):
    """Which characters the terminal's font has."""

    BRAILLE = "braille"
    BLOCKS = "blocks"
    ASCII = "ascii"


def glyphs_for(environment: Mapping[str, str]) -> Glyphs:
    """What $ORCHESTRA_GLYPHS says (braille, blocks or ascii); otherwise ASCII where the font can't
    be trusted with more, else braille."""
    if wants_ascii(environment):
        return Glyphs.ASCII
    blocks = environment.get("ORCHESTRA_GLYPHS") == "blocks"
    return Glyphs.BLOCKS if blocks else Glyphs.BRAILLE


class Run(NamedTuple):
    """Characters of one look. `series`: its number, or TEXT or ALARM."""

    text: str
    series: int = TEXT
    dim: bool = False


class _Font(NamedTuple):
    """`bits[row][column]` of a cell's dots; `characters[bits]`."""

    bits: tuple[tuple[int, ...], ...]
    characters: str
    cross: str
    upright: str


_FONTS = {
    Glyphs.BRAILLE: _Font(
        ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)),
        " " + "".join(chr(0x2800 + bits) for bits in range(1, 256)),
        "×",
        "│",
    ),
    Glyphs.BLOCKS: _Font(((1, 2), (4, 8)), " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█", "×", "│"),
    Glyphs.ASCII: _Font(((1,), (2,)), " '.:", "x", "|"),
}


class Canvas:
    """So many characters wide and high (each at least 1)."""

    def __init__(self, width: int, height: int, glyphs: Glyphs = Glyphs.BRAILLE) -> None:
        self.width, self.height = width, height
        self._font = _FONTS[glyphs]
        bits = self._font.bits
        self._cell_width, self._cell_height = len(bits[0]), len(bits)
        self.dots_wide, self.dots_high = width * self._cell_width, height * self._cell_height
        # For each column of dots in a cell: the bits from one row of dots to another.
        self._spans = [
            {
                (first, last): sum(row[column] for row in bits[first : last + 1])
                for first in range(len(bits))
                for last in range(first, len(bits))
            }
            for column in range(self._cell_width)
        ]
        self._bits = [0] * (width * height)
        self._owner: list[tuple[int, bool]] = [_EMPTY] * (width * height)
        self._signs: dict[int, str] = {}

    @property
    def cross(self) -> str:
        """The sign for a value that is not finite."""
        return self._font.cross

    @property
    def upright(self) -> str:
        """One character of a vertical line."""
        return self._font.upright

    def line(
        self, x0: float, y0: float, x1: float, y1: float, series: int, dim: bool = False
    ) -> None:
        """From dot to dot, both included."""
        if not math.isfinite(x0 + y0 + x1 + y1):
            return
        x0, y0, x1, y1 = (min(max(value, -_FAR), _FAR) for value in (x0, y0, x1, y1))
        if int(x0) == int(x1):
            self.upright_line(x0, y0, y1, series, dim)
            return
        if x0 > x1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        slope = (y1 - y0) / (x1 - x0)
        first, last = max(math.floor(x0), 0), min(math.floor(x1), self.dots_wide - 1)
        for column in range(first, last + 1):
            y = y0 + (max(column, x0) - x0) * slope
            # A steep stroke goes to where the next column begins and leaves that dot to it.
            end = y0 + (column + 1 - x0) * slope
            end = min(max(end - 1, y), y1) if slope > 0 else max(min(end + 1, y), y1)
            self.upright_line(column, y, end, series, dim)
        self.upright_line(x1, y1, y1, series, dim)

    def upright_line(self, x: float, y0: float, y1: float, series: int, dim: bool = False) -> None:
        """Straight down or up in one column of dots."""
        if not (0 <= x < self.dots_wide and math.isfinite(y0 + y1)):
            return
        top, bottom = (y0, y1) if y0 <= y1 else (y1, y0)
        if bottom < 0 or top >= self.dots_high:
            return
        high, first = self._cell_height, max(int(top), 0)
        last = min(int(bottom), self.dots_high - 1)
        column, dot = divmod(int(x), self._cell_width)
        spans, owner = self._spans[dot], (series, dim)
        bits, owners, width = self._bits, self._owner, self.width
        first_row, first_dot = divmod(first, high)
        last_row, last_dot = divmod(last, high)
        for row in range(first_row, last_row + 1):
            span = spans[
                first_dot if row == first_row else 0, last_dot if row == last_row else high - 1
            ]
            cell = row * width + column
            if owners[cell] == owner:
                bits[cell] |= span
            else:
                owners[cell] = owner
                bits[cell] = span

    def sign(self, column: int, row: int, character: str, series: int, dim: bool = False) -> None:
        """One character in a cell, over all that is drawn there."""
        if 0 <= column < self.width and 0 <= row < self.height:
            cell = row * self.width + column
            self._signs[cell] = character
            self._owner[cell] = (series, dim)

    def backdrop(self, column: int, character: str, series: int = TEXT, dim: bool = True) -> None:
        """One character in each free cell of a column; call it after all lines."""
        for row in range(self.height):
            cell = row * self.width + column
            if 0 <= column < self.width and not self._bits[cell] and cell not in self._signs:
                self.sign(column, row, character, series, dim)

    def rows(self) -> Iterator[list[Run]]:
        """Each row in as few runs as its looks need; together exactly as wide as the canvas."""
        characters = self._font.characters
        text = [characters[bits] for bits in self._bits]
        for cell, sign in self._signs.items():
            text[cell] = sign
        for start in range(0, len(text), self.width):
            runs, at = [], start
            for owner, same in groupby(self._owner[start : start + self.width]):
                end = at + len(list(same))
                runs.append(Run("".join(text[at:end]), *owner))
                at = end
            yield runs
