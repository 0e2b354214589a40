"""The widget that draws plots side by side, and tells where the mouse points in them.

Draws what it is given when it is painted; reads nothing, knows no runs.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from orchestra.tui.canvas import ALARM, TEXT, Run, glyphs_for
from orchestra.tui.colours import ON_DARK, ON_LIGHT
from orchestra.tui.lines import Line, View
from orchestra.tui.plot import Drawing, draw
from orchestra.tui.text import segment

LEAST_TILE = (38, 9)
_SHAPE = 3.0  # columns to rows of a tile that looks well
_FAINT = 0.55  # share of the ground in what is dim


@dataclass(frozen=True)
class Tile:
    """One plot."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Placed:
    column: int
    row: int
    drawing: Drawing


class Picture(Widget):
    """All tiles with the same view, or a sentence."""

    DEFAULT_CSS = "Picture { height: 1fr; width: 1fr; }"

    class Pointed(Message):
        """The mouse is over this x of a plot; None: over none."""

        def __init__(self, x: float | None) -> None:
            super().__init__()
            self.x = x

    class Scrolled(Message):
        """The wheel was turned over this x; `closer`: away from the user."""

        def __init__(self, x: float | None, closer: bool) -> None:
            super().__init__()
            self.x, self.closer = x, closer

    def __init__(self) -> None:
        super().__init__()
        self._tiles: tuple[Tile, ...] = ()
        self._view = View()
        self._sentence = ""
        self._placed: list[_Placed] = []
        self._strips: list[Strip] | None = None
        self._painted: tuple[object, ...] = ()

    def put(self, tiles: Sequence[Tile], view: View) -> None:
        """Show these."""
        self._tiles, self._view, self._sentence = tuple(tiles), view, ""
        self._strips = None
        self.refresh()

    def say(self, sentence: str) -> None:
        """Show a sentence instead: why there is nothing, and what to do."""
        self._tiles, self._sentence, self._strips = (), sentence, None
        self._placed = []
        self.refresh()

    @property
    def columns(self) -> int:
        """Of the curves of one plot: how finely an x can be pointed at."""
        return max((placed.drawing.width for placed in self._placed), default=1)

    def capacity(self) -> int:
        """How many tiles can be read at this size."""
        width, height = self.size
        return max(1, width // LEAST_TILE[0]) * max(1, height // LEAST_TILE[1])

    def render_lines(self, crop: Region) -> list[Strip]:
        now = (self.size, self.app.theme, self.rich_style)  # costly: not for every line
        if self._strips is None or self._painted != now:
            self._strips, self._painted = self._paint(), now
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        strips = self._strips or []
        return strips[y] if y < len(strips) else Strip.blank(self.size.width)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.post_message(self.Pointed(self._x_at(event)))

    def on_leave(self) -> None:
        self.post_message(self.Pointed(None))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Scrolled(self._x_at(event), closer=True))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Scrolled(self._x_at(event), closer=False))

    def _x_at(self, event: events.MouseEvent) -> float | None:
        for placed in self._placed:
            row = event.y - placed.row
            x = placed.drawing.x_at(event.x - placed.column)
            if x is not None and 0 <= row < len(placed.drawing.rows):
                return x
        return None

    def _paint(self) -> list[Strip]:
        width, height = self.size
        if not width or not height:
            return []
        if not self._tiles:
            return self._said(width, height)
        across, down = arrangement(len(self._tiles), width, height)
        self._placed, strips = [], []
        looks = _Looks(self)
        glyphs = glyphs_for(os.environ)
        for band in range(down):
            top, bottom = height * band // down, height * (band + 1) // down
            drawings = []
            for place in range(across):
                left = width * place // across
                right = width * (place + 1) // across - (place + 1 < across)  # a column between
                index = band * across + place
                if index < len(self._tiles):
                    tile = self._tiles[index]
                    drawing = draw(
                        tile.title, tile.lines, self._view, right - left, bottom - top, glyphs
                    )
                    self._placed.append(_Placed(left, top, drawing))
                    drawings.append(drawing.rows)
            for rows in zip(*drawings, strict=True):
                runs = [run for row in rows for run in (*row, Run(" "))][:-1]
                strip = Strip([segment(run.text, looks.of(run)) for run in runs])
                strips.append(strip.adjust_cell_length(width, looks.base))
        return strips

    def _said(self, width: int, height: int) -> list[Strip]:
        looks = _Looks(self)
        lines = textwrap.wrap(self._sentence, max(8, width - 4))[:height]
        blank = Strip.blank(width, looks.base)
        strips = [blank] * max((height - len(lines)) // 2, 0)
        style = looks.of(Run("", TEXT, dim=True))
        for line in lines:
            text = Strip([Segment(" " * ((width - len(line)) // 2), style), segment(line, style)])
            strips.append(text.adjust_cell_length(width, looks.base))
        return [*strips, *[blank] * (height - len(strips))]


class _Looks:
    """Styles of runs on the ground and in the theme that a widget has now."""

    def __init__(self, widget: Widget) -> None:
        self.base = widget.rich_style
        _, ground = widget.background_colors
        theme = widget.app.theme_variables
        dark = widget.app.current_theme.dark
        bright = {
            number: Color.parse(name) for number, name in enumerate(ON_DARK if dark else ON_LIGHT)
        }
        bright[TEXT] = Color.parse(theme["foreground"])
        bright[ALARM] = Color.parse(theme["error"])
        self._styles = {}
        for number, colour in bright.items():
            faint = colour.blend(ground, _FAINT)
            self._styles[number, False] = self.base + Style(color=colour.rich_color)
            self._styles[number, True] = self.base + Style(color=faint.rich_color)
        self._styles[ALARM, False] += Style(bold=True)

    def of(self, run: Run) -> Style:
        return self._styles[run.series, run.dim]


def arrangement(count: int, width: int, height: int) -> tuple[int, int]:
    """Tiles across and down, so that their shape is pleasant."""

    def odd(across: int) -> float:
        down = -(-count // across)
        shape = (width / across) / (height / down)
        return abs(math.log(shape / _SHAPE)) + 0.3 * (across * down - count)

    across = min(range(1, count + 1), key=odd)
    return across, -(-count // across)
