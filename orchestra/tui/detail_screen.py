"""All about one run, on the whole screen: the same tabs as beside the table, and its code."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from orchestra.schedule.board import RunView
from orchestra.tui.acting import Acting
from orchestra.tui.header import NoteLine
from orchestra.tui.key_line import KeyLine
from orchestra.tui.keys import Key, bindings
from orchestra.tui.pane import Focus, in_sight, while_there
from orchestra.tui.panes.events import JumpTo
from orchestra.tui.tabs import Tabs
from orchestra.tui.watcher import Watcher
from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.tui.app import Monitor

KEYS = (
    Key("escape", "back", "back", "Back to the runs.", "detail"),
    Key("right_square_bracket", "by(1)", "", "The next tab.", "detail", False, show_as="]"),
    Key("left_square_bracket", "by(-1)", "", "The tab before.", "detail", False, show_as="["),
    *(
        Key(str(place), f"turn({place})", "", f"Tab {place}.", "detail", footer=False)
        for place in range(1, 10)
    ),
)
EVERY_S = 1.0


class DetailScreen(Acting):
    """Of one run, wherever it stands in the table."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    app: Monitor

    def __init__(self, view: RunView, tab: str = "") -> None:
        super().__init__(id="detail")
        self._view = view
        self._tab = tab

    def compose(self) -> ComposeResult:
        yield NoteLine()
        yield Tabs(self.app.make_panes(detail=True), self._tab)
        yield KeyLine()

    async def on_mount(self) -> None:
        self.query_one(NoteLine).show(self._view)
        tabs = self.query_one(Tabs)
        tabs.show(Focus(self._view))
        await tabs.reveal()
        tabs.pane.focus()
        self.set_interval(EVERY_S, self._tick)

    def chosen(self) -> tuple[RunView, ...]:
        return (self._view,)

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_turn(self, place: int) -> None:
        tabs = self.query_one(Tabs)
        tabs.turn_to_place(place - 1)
        self.call_after_refresh(lambda: tabs.pane.focus())

    def action_by(self, step: int) -> None:
        tabs = self.query_one(Tabs)
        tabs.turn_by(step)
        self.call_after_refresh(lambda: tabs.pane.focus())

    async def on_jump_to(self, event: JumpTo) -> None:
        await self.query_one(Tabs).jump(event)

    def _tick(self) -> None:
        if not in_sight(self):
            return
        watcher: Watcher = self.app.watcher
        run_id = self._view.id
        self.app.board.ask(
            "detail",
            lambda: watcher.look_at(run_id),
            while_there(self, self._show),
            while_there(self, self._complain),
        )
        self.query_one(Tabs).tick()

    def _show(self, view: RunView) -> None:
        self._view = view
        self.query_one(NoteLine).show(view)
        self.query_one(Tabs).show(Focus(view))

    def _complain(self, error: OrchestraError) -> None:
        """It may have been removed; another look follows."""
        self.query_one(NoteLine).complain(str(error))
