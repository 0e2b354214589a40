"""The lines of a log on the screen: only the visible ones are styled. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from orchestra.schedule.log_fold import Said, label
from orchestra.schedule.log_reel import MOST_LINES
from orchestra.schedule.log_search import spans
from orchestra.wire.terminal import Colour, Style, coloured

_FOUND = RichStyle(reverse=True)
_THE_HIT = RichStyle(reverse=True, bold=True, underline=True)
_LABEL = RichStyle(dim=True)

Anchor = tuple[str, int]
"""A line: its log and where it begins."""


class LogLines(ScrollView, can_focus=False):
    """Give it lines with `put`; it says when one scrolls."""

    DEFAULT_CSS = "LogLines { height: 1fr; overflow: scroll; scrollbar-size-horizontal: 0; }"

    class Scrolled(Message):
        """The user has moved; `up`: away from the end."""

        def __init__(self, *, up: bool) -> None:
            super().__init__()
            self.up = up

    def __init__(self) -> None:
        super().__init__()
        self._said: Sequence[Said] = ()
        self._rows: list[tuple[int, int]] = []  # of each screen line: which line, which part of it
        self._labelled = False
        self._labels = 0  # cells of the widest label
        self._placing = False
        self.wrapped = False
        self.needle = ""
        self.hit: Anchor | None = None

    def put(
        self, said: Sequence[Said], *, labelled: bool, end: bool, show: Anchor | None = None
    ) -> None:
        """Show these lines: their end, or that line, or what was on top before."""
        top = show or self._top()
        self._placing = True
        try:
            self._said, self._labelled = said, labelled
            self._lay_out()
            at = self._row_of(top) if top else None
            if end:
                self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)
            elif at is not None:
                above = self.size.height // 2 if show else 0
                self.scroll_to(y=at - above, animate=False, immediate=True)
        finally:
            self._placing = False
        self.refresh()

    def wrap(self, wrapped: bool) -> None:
        """Long lines in several rows, or sideways by scrolling."""
        self.wrapped = wrapped
        at_end = self.is_at_end
        if wrapped:
            self.scroll_to(x=0, animate=False, immediate=True)
        self.put(self._said, labelled=self._labelled, end=at_end)

    @property
    def is_near_top(self) -> bool:
        return self.scroll_offset.y < 2 * self.size.height

    @property
    def is_near_end(self) -> bool:
        return self.scroll_offset.y >= self.max_scroll_y - 2 * self.size.height

    @property
    def is_at_end(self) -> bool:
        return self.scroll_offset.y >= self.max_scroll_y

    def visible_ends(self) -> tuple[Said | None, Said | None]:
        """The first and the last line on the screen."""
        first = self.scroll_offset.y
        last = min(first + self.size.height, len(self._rows)) - 1
        if not 0 <= first <= last:
            return None, None
        return self._said[self._rows[first][0]], self._said[self._rows[last][0]]

    def is_hit(self, said: Said) -> bool:
        """Whether the last search has ended there."""
        return any((line.log, line.start) == self.hit for line in said.lines)

    def move(self, *, x: int = 0, y: int = 0) -> None:
        """Scroll by so many cells, as the user asks for it."""
        offset = self.scroll_offset
        self.scroll_to(offset.x + x, offset.y + y, animate=False, immediate=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._placing and round(old_value) != round(new_value):
            self.post_message(self.Scrolled(up=new_value < old_value))

    def on_resize(self) -> None:
        """Wrapped lines depend on the width."""
        if self.wrapped:
            self.wrap(True)

    def render_line(self, y: int) -> Strip:
        offset = self.scroll_offset
        row, width = offset.y + y, self.size.width
        base = self.rich_style
        if row >= len(self._rows):
            return Strip.blank(width, base)
        at, part = self._rows[row]
        strip = Strip(self._segments(self._said[at])).apply_style(base)
        if self.wrapped:
            start = part * max(1, width)
            return strip.crop_extend(start, start + width, base)
        return strip.crop_extend(offset.x, offset.x + width, base)

    def _segments(self, said: Said) -> list[Segment]:
        hit = self.is_hit(said)
        prefix = []
        if self._labels:
            prefix = [Segment(f"{label(said.logs):>{self._labels}} │ ", _LABEL)]
        return [*prefix, *_styled(said.line.text, self.needle, hit)]

    def _lay_out(self) -> None:
        self._labels = 0
        if self._labelled:
            self._labels = max((len(label(said.logs)) for said in self._said), default=0)
        width = max(1, self.size.width)
        if self.wrapped:
            self._rows = [
                (at, part)
                for at, said in enumerate(self._said)
                for part in range(max(1, -(-self._cells(said) // width)))
            ]
            widest = width
        else:
            self._rows = [(at, 0) for at in range(len(self._said))]
            widest = max(map(self._cells, self._said), default=0)
        self.virtual_size = Size(widest, len(self._rows))

    def _cells(self, said: Said) -> int:
        return _cells(said.line.text) + (self._labels + 3 if self._labels else 0)

    def _top(self) -> Anchor | None:
        first, _ = self.visible_ends()
        return (first.line.log, first.line.start) if first else None

    def _row_of(self, anchor: Anchor) -> int | None:
        for row, (at, _) in enumerate(self._rows):
            if any((line.log, line.start) == anchor for line in self._said[at].lines):
                return row
        return None


def measure(said: Sequence[Said]) -> None:
    """How wide the lines are, ahead of `put`: in another thread, where it takes no time from the
    screen."""
    for each in said:
        _cells(each.line.text)


@lru_cache(maxsize=2 * MOST_LINES)
def _cells(text: str) -> int:
    return sum(cell_len(part) for part, _ in coloured(text))


@lru_cache(maxsize=1024)
def _styled(text: str, needle: str, hit: bool) -> tuple[Segment, ...]:
    """What `coloured` made harmless, in Rich's styles; with the needle marked."""
    segments = []
    parts = coloured(text)
    found = spans(needle, "".join(part for part, _ in parts))
    at = 0
    for part, style in parts:
        rich = rich_style(style)
        for start, end, marked in _pieces(at, at + len(part), found):
            more = (_THE_HIT if hit else _FOUND) if marked else None
            segments.append(Segment(part[start - at : end - at], rich + more if more else rich))
        at += len(part)
    return tuple(segments)


def _pieces(start: int, end: int, found: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """A stretch cut where something found begins or ends."""
    pieces, at = [], start
    for first, last in found:
        first, last = max(first, start), min(last, end)
        if first >= last:
            continue
        pieces += [(at, first, False)] if first > at else []
        pieces.append((first, last, True))
        at = last
    return [*pieces, (at, end, False)] if at < end else pieces


@lru_cache(maxsize=512)
def rich_style(style: Style) -> RichStyle:
    """Ours as Rich's."""
    return RichStyle(
        color=_rich_colour(style.foreground),
        bgcolor=_rich_colour(style.background),
        bold=style.bold or None,
        dim=style.dim or None,
        italic=style.italic or None,
        underline=style.underline or None,
        reverse=style.reverse or None,
    )


def _rich_colour(colour: Colour | None) -> Color | None:
    if colour is None:
        return None
    return Color.from_ansi(colour) if isinstance(colour, int) else Color.from_rgb(*colour)
