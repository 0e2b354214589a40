"""The tabs beside the table: a line of titles, and the one pane that is shown.

A pane is mounted when it is first wanted; those that are not shown are told nothing. Lighter than
Textual's TabbedContent, whose import alone would be seen at start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from orchestra.tui.pane import Focus, Pane

if TYPE_CHECKING:
    from orchestra.tui.panes.events import JumpTo


class TabBar(Widget):
    """Titles with the digits that choose them."""

    DEFAULT_CSS = """
    TabBar { height: 1; background: $panel; }
    """

    class Chosen(Message):
        """The title with this place was clicked."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__(id="tab-bar")
        self._titles = titles
        self.place = 0

    def choose(self, place: int) -> None:
        """Draw this one as the one shown."""
        self.place = place
        self.refresh()

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.size.width
        chosen = base + Style(bold=True, reverse=True)
        segments = []
        for place, word in enumerate(self._words()):
            segments.append(Segment(word, chosen if place == self.place else base))
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        left = 0
        for place, word in enumerate(self._words()):
            if left <= event.x < left + len(word):
                self.post_message(self.Chosen(place))
            left += len(word)

    def _words(self) -> list[str]:
        """Without titles where they do not fit."""
        words = [f" {place} {title} " for place, title in enumerate(self._titles, start=1)]
        if sum(map(len, words)) <= self.size.width:
            return words
        return [
            f" {place} {title} " if place == self.place + 1 else f" {place} "
            for place, title in enumerate(self._titles, start=1)
        ]


class Tabs(Vertical):
    """A stack of panes, one of them shown."""

    DEFAULT_CSS = """
    Tabs > Pane { height: 1fr; }
    """

    class Turned(Message):
        """Another tab is shown."""

    def __init__(self, panes: Sequence[Pane], first: str = "") -> None:
        super().__init__(id="tabs")
        self._panes = list(panes)
        keys = [pane.key for pane in panes]
        self._place = keys.index(first) if first in keys else 0
        self._focus = Focus(None)
        self._told: Focus | None = None

    def compose(self) -> ComposeResult:
        yield TabBar([pane.title for pane in self._panes])

    def on_mount(self) -> None:
        self.query_one(TabBar).choose(self._place)

    @property
    def pane(self) -> Pane:
        """The one that is shown."""
        return self._panes[self._place]

    def turn_to(self, key: str) -> None:
        """Show the pane with this key."""
        self._turn([pane.key for pane in self._panes].index(key))

    def turn_by(self, step: int) -> None:
        """Show the next or the one before."""
        self._turn((self._place + step) % len(self._panes))

    def turn_to_place(self, place: int) -> None:
        """Show the one with this place, from 0, if there is one."""
        if 0 <= place < len(self._panes):
            self._turn(place)

    def show(self, focus: Focus) -> None:
        """These runs are meant from now on."""
        self._focus = focus
        self._tell()

    def tick(self) -> None:
        """A second has gone by."""
        if self.pane.is_mounted and self.pane.display and self.display:
            self.pane.tick()

    async def reveal(self) -> None:
        """Mount what is shown, now that there is time; the first paint does not wait for it."""
        if not self.is_attached:  # the program ends
            return
        if not self.pane.is_attached:
            await self.mount(self.pane)
        self._tell()

    async def jump(self, event: JumpTo) -> None:
        """To the log that an event is about."""
        from orchestra.tui.panes.log import LogPane  # loads much that the first paint does not need

        self.turn_to(LogPane.key)
        await self.reveal()
        log = self.query_one(LogPane)
        log.open(event.run_id, attempt=event.attempt, rank=event.rank, evaluation=event.evaluation)
        log.focus()

    def on_tab_bar_chosen(self, event: TabBar.Chosen) -> None:
        self._turn(event.place)

    def _turn(self, place: int) -> None:
        if place != self._place:
            self.pane.display = False
            self._place = place
            self._told = None
        self.query_one(TabBar).choose(place)
        self.pane.display = True
        self.call_next(self.reveal)
        self.post_message(self.Turned())

    def _tell(self) -> None:
        if self.pane.is_mounted and self.display and self._focus != self._told:
            self._told = self._focus
            self.pane.show(self._focus)
