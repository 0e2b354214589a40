"""The table of runs: only what is visible is formatted, only what has changed is drawn.

Textual's own DataTable formats every row; this one costs the same with 100 and 100,000 runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from orchestra.schedule.board import RunView
from orchestra.tui.columns import (
    COLUMNS,
    GAP,
    MARKS,
    Column,
    Setting,
    cells_of,
    choose,
    is_alarming,
    titles_of,
)
from orchestra.tui.keys import Key, bindings
from orchestra.tui.looks import colour_of

KEYS = (
    Key("up,k", "move(-1)", "up", "The run above.", "runs", footer=False),
    Key("down,j", "move(1)", "down", "The run below.", "runs", footer=False),
    Key("pageup", "page(-1)", "page up", "A page up.", "runs", footer=False),
    Key("pagedown", "page(1)", "page down", "A page down.", "runs", footer=False),
    Key("home,g", "end(-1)", "first", "The first run.", "runs", footer=False),
    Key("end,G", "end(1)", "last", "The last run.", "runs", footer=False),
    Key("space", "mark", "mark", "Mark the run, for actions on several and to compare.", "runs"),
    Key("asterisk", "mark_all", "mark all", "Mark all runs shown; again: none.", "runs", False),
    Key("p", "pin", "pin", "Keep the run's curve beside those of others (at most 7).", "runs"),
    Key("enter", "open", "details", "All about the run.", "runs"),
)
MOST_PINNED = 7


@dataclass(frozen=True)
class _Line:
    """All that a drawn row depends on."""

    cells: tuple[str, ...]
    view: RunView
    marked: bool
    pinned: bool
    current: bool


class RunsTable(ScrollView, can_focus=True):
    """Rows are RunViews; the cursor stays on its run, wherever that goes."""

    DEFAULT_CSS = """
    RunsTable {
        height: 1fr;
        background: $background;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
    }
    RunsTable > .runs--head { text-style: bold; color: $text-muted; background: $panel; }
    RunsTable > .runs--current { background: $primary 25%; text-style: bold; }
    RunsTable > .runs--blurred { background: $foreground 10%; }
    RunsTable > .runs--quiet { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "runs--head",
        "runs--current",
        "runs--blurred",
        "runs--quiet",
    }
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    class Moved(Message):
        """Another run is under the cursor, or others are pinned."""

    class Opened(Message):
        """The user wants to see all about the run under the cursor."""

    class HeadClicked(Message):
        """The title of a column was clicked."""

        def __init__(self, column: Column) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__(id="runs")
        self._views: list[RunView] = []
        self._place: dict[str, int] = {}
        self._cursor = 0
        self._marked: set[str] = set()
        self._pinned: dict[str, RunView] = {}
        self._setting = Setting(0.0)
        self._columns: Sequence[Column] = COLUMNS
        self._chosen: list[tuple[Column, int]] = []
        self._sort = ("", False)
        self._drawn: dict[int, _Line] = {}
        self._base = Style.null()

    # what is shown

    def show(
        self, views: Sequence[RunView], setting: Setting, others: Mapping[str, RunView | None]
    ) -> None:
        """The rows from now on. Only visible ones that differ are drawn anew.

        `others`: of pinned runs without a row; None of one that is no more.
        """
        current = self.current
        self._views = list(views)
        self._place = {view.id: index for index, view in enumerate(self._views)}
        self._setting = setting
        self._renew_pinned(others)
        kept = self._place.get(current.id) if current else None
        self._cursor = min(self._cursor, max(0, len(views) - 1)) if kept is None else kept
        if self.virtual_size.height != len(views) + 1:
            self.virtual_size = Size(self._width, len(views) + 1)
        if kept is None and self._views:
            self._reveal()
        self._refresh_changed()
        now = self.current
        if now != current:
            self.post_message(self.Moved())

    def use_columns(self, columns: Sequence[Column], sort: str, *, descending: bool) -> None:
        """What is shown, and what it is ordered by (marked in the head)."""
        self._columns, self._sort = columns, (sort, descending)
        self._layout()

    @property
    def current(self) -> RunView | None:
        """The run under the cursor."""
        return self._views[self._cursor] if self._cursor < len(self._views) else None

    @property
    def views(self) -> tuple[RunView, ...]:
        """All rows."""
        return tuple(self._views)

    @property
    def marked(self) -> tuple[RunView, ...]:
        """In the order of the rows. A mark out of sight, behind a filter, stays but counts for
        nothing: no action is about what its user does not see."""
        return tuple(view for view in self._views if view.id in self._marked)

    @property
    def pinned(self) -> tuple[RunView, ...]:
        """In the order in which they were pinned; also those behind a filter."""
        return tuple(self._pinned.values())

    def go_to(self, run_id: str) -> bool:
        """Put the cursor on that run; False if it is not among the rows."""
        place = self._place.get(run_id)
        if place is None:
            return False
        self._move_to(place)
        return True

    def unmark(self) -> None:
        """No run in sight is marked any more."""
        self._marked -= self._place.keys()
        self._refresh_changed()

    # keys and mouse

    def action_move(self, by: int) -> None:
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        self._move_to(self._cursor + by * max(1, self.size.height - 2))

    def action_end(self, which: int) -> None:
        self._move_to(len(self._views) - 1 if which > 0 else 0)

    def action_mark(self) -> None:
        if self.current is not None:
            self._marked ^= {self.current.id}
            self._move_to(self._cursor + 1)

    def action_mark_all(self) -> None:
        if self._place.keys() <= self._marked:
            self._marked -= self._place.keys()
        else:
            self._marked |= self._place.keys()
        self._refresh_changed()

    def action_pin(self) -> None:
        if (view := self.current) is None:
            return
        if view.id in self._pinned:
            del self._pinned[view.id]
        elif len(self._pinned) < MOST_PINNED:
            self._pinned[view.id] = view
        else:
            self.notify(f"at most {MOST_PINNED} runs can be pinned: unpin one", markup=False)
        self._refresh_changed()
        self.post_message(self.Moved())

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            column = self._column_at(event.x)
            if column is not None and column.sort:
                self.post_message(self.HeadClicked(column))
            return
        place = self.scroll_offset.y + event.y - 1
        if place >= len(self._views):
            return
        again = place == self._cursor
        self._move_to(place)
        if event.x < MARKS and self.current is not None:
            self._marked ^= {self.current.id}
            self._refresh_changed()
        elif again and event.chain > 1:
            self.post_message(self.Opened())

    def on_resize(self) -> None:
        self._layout()

    def on_focus(self) -> None:
        self._refresh_changed()

    def on_blur(self) -> None:
        self._refresh_changed()

    # drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        self._base = self.rich_style  # costly: not for every line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width = self._width
        if y == 0:
            return self._head(width)
        place = self.scroll_offset.y + y - 1
        if place >= len(self._views):
            return Strip.blank(width, self._base)
        line = self._line(place)
        self._drawn[y] = line
        return self._strip(line, width)

    def _line(self, place: int) -> _Line:
        view = self._views[place]
        cells = cells_of(view, self._chosen, self._setting)
        return _Line(
            cells, view, view.id in self._marked, view.id in self._pinned, place == self._cursor
        )

    def _strip(self, line: _Line, width: int) -> Strip:
        base = self._base
        if line.current:
            kind = "runs--current" if self.has_focus else "runs--blurred"
            ground = self.get_component_rich_style(kind).bgcolor  # blended with what is below it
            base = base + Style(bgcolor=ground, bold=True)
        state = base + Style(
            color=colour_of(line.view.doing, dark=self.app.current_theme.dark),
            bold=is_alarming(line.view),
        )
        quiet = base if line.view.is_live else base + self._quiet_style()
        marks = ("*" if line.marked else " ") + ("P" if line.pinned else " ")
        segments = [Segment(marks, base + Style(bold=True))]
        styled = (
            (f"{cell}{' ' * GAP}", state if column.key in ("state", "bar") else quiet)
            for (column, _), cell in zip(self._chosen, line.cells, strict=True)
        )
        for style, group in itertools.groupby(styled, key=itemgetter(1)):  # few long segments
            segments.append(Segment("".join(text for text, _ in group), style))
        return Strip(segments).adjust_cell_length(width, base)

    def _quiet_style(self) -> Style:
        return Style(color=self.get_component_rich_style("runs--quiet").color)

    def _head(self, width: int) -> Strip:
        style = self.get_component_rich_style("runs--head")
        sort, descending = self._sort
        titles = titles_of(self._chosen, sort, descending=descending)
        text = " " * MARKS + (" " * GAP).join(titles)
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)

    def _layout(self) -> None:
        self._chosen = choose(self._columns, self._width)
        self._drawn.clear()
        self.virtual_size = Size(self._width, len(self._views) + 1)
        self.refresh()

    def _refresh_changed(self) -> None:
        """Of the visible rows; the head never changes by itself."""
        for y in range(1, self.size.height):
            place = self.scroll_offset.y + y - 1
            there = place < len(self._views)
            if (self._line(place) if there else None) != self._drawn.get(y):
                if not there:
                    self._drawn.pop(y, None)
                self.refresh_line(self.scroll_offset.y + y)

    def _renew_pinned(self, others: Mapping[str, RunView | None]) -> None:
        now = {**self._pinned, **others, **{view.id: view for view in self._views}}
        known = ((run_id, now[run_id]) for run_id in self._pinned)
        self._pinned = {run_id: view for run_id, view in known if view is not None}

    def _move_to(self, place: int) -> None:
        if not self._views:
            return
        before = self._cursor
        self._cursor = max(0, min(len(self._views) - 1, place))
        self._reveal()
        self._refresh_changed()
        if before != self._cursor:
            self.post_message(self.Moved())

    def _reveal(self) -> None:
        visible = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            top = self._cursor
        elif self._cursor >= top + visible:
            top = self._cursor - visible + 1
        if top != self.scroll_offset.y:
            self._drawn.clear()
            self.scroll_to(y=top, animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        self._drawn.clear()
        super().watch_scroll_y(old_value, new_value)

    @property
    def _width(self) -> int:
        """Without the scroll bar."""
        return max(1, self.scrollable_content_region.width)

    def _column_at(self, x: int) -> Column | None:
        left = MARKS
        for column, room in self._chosen:
            if left <= x < left + room + GAP:
                return column
            left += room + GAP
        return None
