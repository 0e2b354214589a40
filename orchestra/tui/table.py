"""Rows of Content that scroll: drawn line by line, so that their number costs nothing.

`aligned` makes the rows of a table; `Lines` shows any rows, with a cursor if some can be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style

from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import join, safe

_GAP = "  "

KEYS = (
    Key("up,k", "move(-1)", "up", "One line up.", "list", footer=False),
    Key("down,j", "move(1)", "down", "One line down.", "list", footer=False),
    Key("pageup", "page(-1)", "page up", "One page up.", "list", footer=False),
    Key("pagedown", "page(1)", "page down", "One page down.", "list", footer=False),
    Key("home,g", "edge(-1)", "first", "To the first line.", "list", footer=False),
    Key("end,G", "edge(1)", "last", "To the last line.", "list", footer=False),
    Key("left", "sideways(-1)", "left", "Half a page to the left.", "list", footer=False),
    Key("right", "sideways(1)", "right", "Half a page to the right.", "list", footer=False),
)


def aligned(
    header: Sequence[str], rows: Sequence[Sequence[Content]], right: Sequence[int] = ()
) -> list[Content]:
    """The header and the rows, in columns as wide as their widest cell; `right`: those of numbers.

    The last column is not padded.
    """
    title = [Content.styled(name, "bold") for name in header]
    table = [title, *(list(row) for row in rows)]
    widths = [max(row[column].cell_length for row in table) for column in range(len(header))]
    return [_row(cells, widths, right) for cells in table]


def _row(cells: Sequence[Content], widths: Sequence[int], right: Sequence[int]) -> Content:
    last = len(cells) - 1
    padded = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = width - cell.cell_length
        if column in right:
            cell = cell.pad_left(space)
        elif column != last:
            cell = cell.pad_right(space)
        padded.append(cell)
    return join(*padded, between=_GAP)


def wrapped(text: str, width: int, style: str = "") -> list[Content]:
    """A sentence from outside in as many lines as it needs."""
    return safe(text, style).wrap(max(width, 10))


class Lines(ScrollView, can_focus=True):
    """The rows. A row that has a target can be chosen: the cursor stands on those alone."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor"}
    DEFAULT_CSS = """
    Lines {
        height: 1fr;
        & > .lines--cursor { background: $block-cursor-blurred-background; text-style: bold; }
        &:focus > .lines--cursor { background: $block-cursor-background; text-style: bold; }
    }
    """

    class Chosen(Message):
        """A second click on a row with a target, or `press`."""

        def __init__(self, target: Any) -> None:
            super().__init__()
            self.target = target

    def __init__(self, *, id: str | None = None, follow: bool = False) -> None:
        """`follow`: new rows come last, and are shown while the last one is in sight."""
        super().__init__(id=id)
        self.lines: list[Content] = []
        self._targets: Sequence[Any] = ()
        self._cursor: int | None = None
        self._pinned = 0
        self._follow = follow
        self._at_end = True

    def replace(
        self, lines: Sequence[Content], targets: Sequence[Any] = (), *, pinned: int = 0
    ) -> None:
        """Other rows; where it is scrolled to, and the row of the cursor's target, stay.

        Args:
            targets: one for each row, None for one that can't be chosen; empty: none can.
            pinned: so many rows at the top stay in sight: a header.
        """
        before = self.target
        self.lines, self._targets, self._pinned = list(lines), targets, pinned
        self._cursor = self._row_of(before)
        width = max((line.cell_length for line in self.lines), default=0)
        self.virtual_size = Size(width, len(self.lines))
        if self._follow and self._at_end:
            # There may be no scrollbar yet.
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """New rows are followed from the end alone."""
        super().watch_scroll_y(old_value, new_value)
        self._at_end = new_value >= self.max_scroll_y

    @property
    def target(self) -> Any:
        """What the row under the cursor stands for; None: nothing."""
        if self._cursor is None or self._cursor >= len(self._targets):
            return None
        return self._targets[self._cursor]

    def choose(self, target: Any) -> None:
        """Put the cursor on its first row."""
        if target in self._targets:
            self._place(self._targets.index(target))

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        scroll_x, scroll_y = self.scroll_offset
        row = y if y < self._pinned else scroll_y + y
        width = self.size.width
        style = self.visual_style
        if row >= len(self.lines):
            return Strip.blank(width, style.rich_style)
        if self._cursor is not None and self._is_chosen(row):
            style += Style.from_styles(self.get_component_styles("lines--cursor"))
        parts = self.lines[row].render(style, end="", parse_style=self._get_style)
        strip = Strip([Segment(text, part.rich_style) for text, part in parts])
        return strip.crop_extend(scroll_x, scroll_x + width, style.rich_style)

    def action_move(self, by: int) -> None:
        """The cursor to the next row that can be chosen, or the view by a line."""
        if not self._targets:
            self.scroll_relative(y=by, animate=False)
            return
        here = self.target
        if self._cursor is None:
            bottom = min(self.scroll_offset.y + self.size.height, len(self.lines)) - 1
            self._place_near(bottom if by < 0 else self.scroll_offset.y, by)
            return
        rows = range(self._cursor + by, len(self.lines) if by > 0 else -1, by)
        there = (row for row in rows if self._targets[row] not in (None, here))
        found = next(there, None)
        if found is None:
            self.scroll_relative(y=by, animate=False)
        else:
            self._place(self._row_of(self._targets[found]))

    def action_page(self, by: int) -> None:
        """A screen up or down; the cursor comes along."""
        if not self._targets:
            self.scroll_relative(y=by * self.size.height, animate=False)
            return
        start = self._cursor or 0
        end = min(max(start + by * self.size.height, 0), len(self.lines) - 1)
        self._place_near(end, -by)

    def action_edge(self, by: int) -> None:
        """The first or the last row."""
        if self._targets:
            self._place_near(0 if by < 0 else len(self.lines) - 1, -by)
        elif by < 0:
            self.scroll_home(animate=False)
        else:
            self.scroll_end(animate=False)

    def action_sideways(self, by: int) -> None:
        """Half a screen to the left or right."""
        self.scroll_relative(x=by * max(1, self.size.width // 2), animate=False)

    def press(self) -> None:
        """Choose the row under the cursor."""
        if self.target is not None:
            self.post_message(self.Chosen(self.target))

    def on_click(self, event: events.Click) -> None:
        """The cursor goes there; a second click chooses."""
        row = self.scroll_offset.y + event.y
        if row >= len(self._targets) or self._targets[row] is None:
            return
        again = self._is_chosen(row)
        self._place(self._row_of(self._targets[row]))
        if again:
            self.press()

    def _is_chosen(self, row: int) -> bool:
        """All rows of one target are."""
        target = self.target
        return row < len(self._targets) and target is not None and self._targets[row] == target

    def _row_of(self, target: Any) -> int | None:
        known = target is not None and target in self._targets
        return self._targets.index(target) if known else None

    def _place_near(self, row: int, step: int) -> None:
        """On the nearest row with a target, from that one on in this direction."""
        end = len(self.lines) if step > 0 else -1
        rows = (each for each in range(row, end, step) if self._targets[each] is not None)
        found = next(rows, None)
        if found is not None:
            self._place(self._row_of(self._targets[found]))

    def _place(self, row: int | None) -> None:
        self._cursor = row
        if row is not None:
            height = sum(target == self._targets[row] for target in self._targets)
            top = max(0, row - self._pinned)  # a row under the pinned ones is not in sight
            region = Region(self.scroll_offset.x, top, 1, height + row - top)
            self.scroll_to_region(region, animate=False, force=True)
        self.refresh()
