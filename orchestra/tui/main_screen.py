"""The first screen: header, table of runs, the tabs beside it, keys.

Draws what the background finds and turns keys into questions; knows nothing of SQL or files.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer

from orchestra.schedule.board import RunView
from orchestra.tui.acting import Acting, Done
from orchestra.tui.columns import BOTH_FROM, DEFAULT_COLUMNS, Column, Setting, by_key
from orchestra.tui.columns_dialog import ColumnsDialog
from orchestra.tui.compare import CompareScreen
from orchestra.tui.detail_screen import DetailScreen
from orchestra.tui.filter_line import FilterLine
from orchestra.tui.header import Facts, Header, NoteLine
from orchestra.tui.key_line import KeyLine
from orchestra.tui.keys import Key, bindings
from orchestra.tui.pane import Focus, in_sight, while_there
from orchestra.tui.panes.events import JumpTo
from orchestra.tui.runs_table import RunsTable
from orchestra.tui.tabs import Tabs
from orchestra.tui.text import join, safe
from orchestra.tui.watcher import FIRST_PAGE, Found, Wanted
from orchestra.wire.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.tui.app import Monitor

KEYS = (
    Key("slash", "filter", "filter", "Filter the runs, in the language of `orchestra ls`.", "main"),
    Key("tab", "other", "pane", "From the table to the pane and back.", "main"),
    Key("e", "expand", "expand", "The pane alone, or the table alone; again: both.", "main"),
    Key("c", "compare", "compare", "Compare the marked runs.", "main"),
    Key("o", "order(1)", "order", "Order by the next column.", "main"),
    Key("O", "reverse", "reverse", "The same order, backwards.", "main", footer=False),
    Key("W", "columns", "columns", "Which columns there are.", "main", footer=False),
    Key("escape", "back", "back", "Undo: pane alone, marks, filter.", "main", footer=False),
    *(
        Key(str(place), f"turn({place})", "", f"Tab {place}.", "main", footer=False)
        for place in range(1, 9)
    ),
)
EVERY_S = 1.0
RESTS_S = 0.1  # a cursor that has not moved for so long
UNSEEN_EVERY_S = 5.0  # while the terminal has not the focus


class MainScreen(Acting):
    """What `orchestra tui` opens with."""

    DEFAULT_CSS = """
    MainScreen #body { height: 1fr; }
    MainScreen #left { width: 3fr; }
    MainScreen #tabs { width: 2fr; border-left: vkey $panel; }
    MainScreen.-narrow #tabs { display: none; border-left: none; }
    MainScreen.-narrow.-pane #tabs { display: block; }
    MainScreen.-narrow.-pane #left { display: none; }
    MainScreen.-pane #left { display: none; }
    MainScreen.-table #tabs { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    app: Monitor

    def __init__(self) -> None:
        super().__init__(id="main")
        self._wanted = Wanted(limit=FIRST_PAGE)
        self._found: Found | None = None
        self._problem = ""
        self._seen = True
        self._asked_at = 0.0
        self._following: Timer | None = None

    def compose(self) -> ComposeResult:
        kept = self.app.kept
        self._wanted = Wanted(kept.query, kept.sort, FIRST_PAGE)
        yield Header()
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield RunsTable()
                yield FilterLine()
                yield NoteLine()
            yield Tabs(self.app.make_panes(), kept.tab or "curves")
        yield KeyLine()

    def on_mount(self) -> None:
        self._use_columns()
        self._table.focus()
        if self.app.first is not None and self.app.first.wanted == self._wanted:
            self._show(self.app.first)
        else:
            self._look_again()
        self.set_interval(EVERY_S, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < BOTH_FROM, "-narrow")
        self.call_after_refresh(self._tell_tabs)

    # looking

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._asked_at >= (EVERY_S if self._seen else UNSEEN_EVERY_S) * 0.9:
            self._look_again()
        self.app.gpus.tick()
        if in_sight(self):
            self._show_header()
            self._tabs.tick()

    def _look_again(self) -> None:
        self._asked_at = time.monotonic()
        wanted, watcher = self._wanted, self.app.watcher
        pinned = [view.id for view in self._table.pinned]
        self.app.board.ask(
            "runs",
            lambda: watcher.look(wanted, pinned),
            while_there(self, self._show),
            while_there(self, self._complain),
        )

    def _show(self, found: Found) -> None:
        if found.wanted != self._wanted:
            return
        first = self._found is None
        self._found, self._problem = found, ""
        setting = Setting(time.time(), gpus=self.app.gpus.indices)
        self._table.show(found.views, setting, found.others)
        self._show_note()
        self._show_header()
        if in_sight(self):  # else its panes would read on behind another screen
            self._tabs.show(self._focus)
        if first:  # the rows are there: now the rest
            self._wanted = Wanted(self._wanted.query, self._wanted.sort)
            self.call_after_refresh(self._open_tabs)

    async def _open_tabs(self) -> None:
        if self._tabs.display:
            await self._tabs.reveal()
        self._look_again()

    def _complain(self, error: OrchestraError) -> None:
        self._problem = str(error)
        self._show_note()
        self._show_header()

    def _show_header(self) -> None:
        found = self._found
        age_s = None if found is None else time.monotonic() - found.read_at
        facts = Facts(
            host=socket.gethostname(),
            workspace=str(self.app.workspace.root),
            counts=found.counts if found else {},
            gpus=self.app.gpus.words,
            age_s=age_s if age_s is None or age_s >= EVERY_S * 5 else 0.0,
            readonly=self.app.readonly,
            query=self._wanted.query,
            shown=len(found.views) if found else 0,
            total=found.total if found else 0,
        )
        self.query_one(Header).show(facts)

    def _show_note(self) -> None:
        self.query_one(NoteLine).show(self._table.current, self._instead())

    def _instead(self) -> Content | None:
        """What is to be said where there is no run to speak of."""
        if self._problem:
            return safe(self._problem, "bold $error")
        found = self._found
        if found is None or found.views:
            return None
        if found.wanted.query:
            return join(safe("no run matches "), safe(found.wanted.query, "bold"), safe(": Esc"))
        start = safe("orchestra run TASK --upstream NAME --gpus N", "bold")
        return join(safe("No runs yet. Start one: n here, or in a shell: "), start)

    # keys

    def action_filter(self) -> None:
        self.query_one(FilterLine).open(self._wanted.query)

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self._want(Wanted(event.query, self._wanted.sort))

    def on_filter_line_closed(self) -> None:
        self._table.focus()
        self.app.remember(query=self._wanted.query)

    def action_order(self, step: int) -> None:
        sorts = list(dict.fromkeys(column.sort for column in self._columns if column.sort))
        now = self._wanted.sort.lstrip("-")
        place = sorts.index(now) + step if now in sorts else 0
        self._order_by(sorts[place] if 0 <= place < len(sorts) else "")

    def action_columns(self) -> None:
        """Ask which, and keep the answer."""

        def take(keys: tuple[str, ...] | None) -> None:
            self.app.remember(columns=keys or DEFAULT_COLUMNS)
            self._use_columns()

        self.app.push_screen(ColumnsDialog(self.app.kept.columns or DEFAULT_COLUMNS), take)

    def action_reverse(self) -> None:
        sort = self._wanted.sort or "-created"
        self._order_by(sort[1:] if sort.startswith("-") else f"-{sort}")

    def on_runs_table_head_clicked(self, event: RunsTable.HeadClicked) -> None:
        sort = event.column.sort
        self._order_by(f"-{sort}" if self._wanted.sort == sort else sort)

    def _order_by(self, sort: str) -> None:
        self._want(Wanted(self._wanted.query, sort))
        self.app.remember(sort=sort)
        self._use_columns()

    def _want(self, wanted: Wanted) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._look_again()

    def action_back(self) -> None:
        if self.has_class("-pane") or self.has_class("-table"):
            self.remove_class("-pane", "-table")
            self._table.focus()
        elif self._table.marked:
            self._table.unmark()
        elif self._wanted.query:
            self._want(Wanted("", self._wanted.sort))
            self.app.remember(query="")

    def action_other(self) -> None:
        if self._table.has_focus:
            if self.has_class("-narrow"):
                self.add_class("-pane")
            self.remove_class("-table")
            self._focus_pane()
        else:
            self.remove_class("-pane")
            self._table.focus()

    def action_expand(self) -> None:
        in_table = self._table.has_focus
        if self.has_class("-pane") or self.has_class("-table"):
            self.remove_class("-pane", "-table")
        else:
            self.add_class("-table" if in_table else "-pane")
        self.call_after_refresh(self._tell_tabs)

    def action_turn(self, place: int) -> None:
        if self.has_class("-narrow"):
            self.add_class("-pane")
        self.remove_class("-table")
        self._tabs.turn_to_place(place - 1)
        self._focus_pane()

    def _focus_pane(self) -> None:
        self.call_after_refresh(self._tell_tabs)
        self.call_after_refresh(lambda: self._tabs.pane.focus())

    async def _tell_tabs(self) -> None:
        if self._tabs.display and self._found is not None:
            await self._tabs.reveal()
            self._tabs.show(self._focus)

    def on_tabs_turned(self) -> None:
        self.app.remember(tab=self._tabs.pane.key)

    def on_runs_table_moved(self) -> None:
        """The pane follows when the cursor rests: a key is answered before a curve is drawn."""
        self._show_note()
        if self._following is not None:
            self._following.stop()
        self._following = self.set_timer(RESTS_S, lambda: self._tabs.show(self._focus))

    def on_app_focus(self) -> None:
        self._seen = True
        self._look_again()

    def on_app_blur(self) -> None:
        self._seen = False

    def on_runs_table_opened(self) -> None:
        if (view := self._table.current) is not None:
            self.app.push_screen(DetailScreen(view))

    def action_compare(self) -> None:
        runs = self._table.marked
        if len(runs) < 2:
            self.notify("mark two runs or more with space, then compare", markup=False)
            return
        self.app.push_screen(CompareScreen(self.app.workspace, self.app.reader, runs))

    async def on_jump_to(self, event: JumpTo) -> None:
        await self._tabs.jump(event)

    def on_done(self, event: Done) -> None:
        self.app.watcher.distrust()
        self._look_again()

    # parts

    @property
    def shown(self) -> tuple[RunView, ...]:
        """The rows of the table."""
        return self._table.views

    def go_to(self, run_id: str) -> None:
        """Put the cursor on that run."""
        self._table.go_to(run_id)
        self._table.focus()

    def chosen(self) -> tuple[RunView, ...]:
        """What an action is about: the marked runs, or else the one under the cursor."""
        current = self._table.current
        return self._table.marked or ((current,) if current else ())

    @property
    def _focus(self) -> Focus:
        return Focus(self._table.current, self._table.pinned)

    @property
    def _table(self) -> RunsTable:
        return self.query_one(RunsTable)

    @property
    def _tabs(self) -> Tabs:
        return self.query_one(Tabs)

    @property
    def _columns(self) -> list[Column]:
        return by_key(self.app.kept.columns or DEFAULT_COLUMNS)

    def _use_columns(self) -> None:
        sort = self._wanted.sort
        self._table.use_columns(self._columns, sort.lstrip("-"), descending=sort.startswith("-"))
