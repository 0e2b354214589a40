"""The log of a run with its keys, and what can be asked of it: searching, filtering, saving.

It is read and drawn in `followed_log`; searching and saving go by `log_slices`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Input

from orchestra.formats import size
from orchestra.schedule import log_reel
from orchestra.schedule.log_choice import LogChoice
from orchestra.schedule.log_save import Saving
from orchestra.schedule.log_search import Search
from orchestra.tui import log_words
from orchestra.tui.fields import Field
from orchestra.tui.keys import Key, bindings
from orchestra.tui.log_slices import Slices, search_from
from orchestra.tui.panes.followed_log import FollowedLog

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

_ASKED = {"search": "search", "filter": "only lines with", "save": "save to"}
_READ_ONLY = "read-only: `orchestra logs RUN` prints the log"

KEYS = (
    Key("f", "follow", "follow", "Follow the end of the log, or stop following.", "log"),
    Key("slash", "ask('search')", "search", "Search; n and N go on.", "log", show_as="/"),
    Key("n", "next(1)", "next", "The next place further down.", "log", footer=False),
    Key("N", "next(-1)", "previous", "The next place further up.", "log", footer=False),
    Key("ampersand", "ask('filter')", "filter", "Only lines with a text.", "log", show_as="&"),
    Key("right_square_bracket", "log(1)", "next log", "All, each rank, launcher, supervisor.",
        "log", show_as="]"),
    Key("left_square_bracket", "log(-1)", "log before", "The log before in that order.",
        "log", footer=False, show_as="["),
    Key("right_curly_bracket", "attempt(1)", "next attempt", "The log of the next attempt.",
        "log", footer=False, show_as="}"),
    Key("left_curly_bracket", "attempt(-1)", "attempt before", "The log of the attempt before.",
        "log", footer=False, show_as="{"),
    Key("w", "wrap", "wrap", "Long lines in several rows, or sideways.", "log"),
    Key("s", "ask('save')", "save", "Save the whole log to a file.", "log", writes=True),
    Key("up", "move(0, -1)", "up", "A line up.", "log", footer=False),
    Key("down", "move(0, 1)", "down", "A line down.", "log", footer=False),
    Key("pageup", "page(-1)", "page up", "A page up.", "log", footer=False),
    Key("pagedown", "page(1)", "page down", "A page down.", "log", footer=False),
    Key("left", "sideways(-1)", "left", "Half a page to the left.", "log", footer=False),
    Key("right", "sideways(1)", "right", "Half a page to the right.", "log", footer=False),
    Key("home", "home", "beginning", "The beginning of the log.", "log", footer=False),
    Key("end", "end", "end", "The end of the log; follows again.", "log", footer=False),
    Key("escape", "dismiss", "cancel", "End searching, filtering or asking.", "log", footer=False),
)  # fmt: skip


class LogPane(FollowedLog):
    """With a line to ask in. `readonly`: no file is written."""

    key = "log"
    title = "log"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = "LogPane > Field { padding: 0 1; display: none; }"

    def __init__(self, workspace: Workspace, reader: Background, *, readonly: bool = False) -> None:
        super().__init__(workspace, reader)
        self._readonly = readonly
        self._box = Field(id="log-input")
        self._asks = ""
        self._searching: Slices[Search] = Slices(
            partial(self.read, slot="-search", failed=self._search_failed),
            lambda _: self._draw_state(),
            self._found,
        )
        self._saving: Slices[Saving] = Slices(
            partial(self.read, slot="-save", failed=self._save_failed),
            lambda saving: self._tell(f"saving, {size(saving.saved_bytes)} (Escape ends it)"),
            lambda saving: self._tell(f"saved {size(saving.saved_bytes)} in {saving.target}"),
        )

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield self._box

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Saving is dim and dead where nothing may be written."""
        if self._readonly and (action, parameters) == ("ask", ("save",)):
            return None
        return super().check_action(action, parameters)

    # Asking

    def action_ask(self, what: str) -> None:
        looked, choice = self._reading.looked, self._choice
        if looked is None or choice is None:
            return
        if what == "save" and self._readonly:
            self._tell(_READ_ONLY)
            return
        self._asks = what
        box = self._box
        box.placeholder = _ASKED[what]
        name = log_words.file_name(choice, looked.chosen.attempt)
        box.value = {"search": self._needle, "filter": self._filter, "save": name}[what]
        box.display = True
        box.focus()

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_box()
        if self._asks == "search":
            self._needle = event.value
            self._find(-1, first=True)
        elif self._asks == "filter":
            self._filter_by(event.value)
        else:
            self._save(event.value)

    def action_dismiss(self) -> None:
        if self._box.display:
            self._close_box()
        elif saving := self._saving.work:
            self._saving.end()
            written = size(saving.saved_bytes)
            self._tell(f"ended: {saving.target} holds only the first {written}")
        elif self._searching.work:
            self._searching.end()
            self._tell("ended")
        elif self._filter:
            self._filter_by("")
        elif self._needle or self._said:
            self._needle, self._said = "", ""
            self._draw()
        else:
            raise SkipAction  # the screen's own Escape

    def _close_box(self) -> None:
        self._box.display = False
        self.focus()

    def _filter_by(self, text: str) -> None:
        self._filter = text
        self._read_on()
        self._draw_state()

    # Searching and saving

    def _choose(self, choice: LogChoice) -> None:
        self._searching.end()
        super()._choose(choice)

    def _news(self) -> str:
        search = self._searching.work
        if search is None:
            return super()._news()
        return f"searching, {size(search.searched_bytes)} (Escape ends it)"

    def action_next(self, by: int) -> None:
        if self._needle:
            self._find(by)

    def _find(self, by: int, *, first: bool = False) -> None:
        reel = self._reading.reel
        if reel is None or not self._needle:
            return
        search = search_from(reel, self._lines, self._needle, forward=by > 0, first=first)
        if search is not None:
            self._searching.begin(search)

    def _found(self, search: Search) -> None:
        hit = search.hit
        if hit is None:
            where = "below" if search.forward else "above"
            self._draw()
            self._tell(f"{search.needle!r} is not {where}")
            return
        self._following = False
        self._said = f"{search.needle!r}"
        reel = self._reading.reel
        if reel is not None and any(hit in said.lines for said in reel.said):
            self._draw(show=hit)
        else:
            self._filter = ""  # it may be among what is left out
            self._jump(lambda view, only: log_reel.around(view, hit, only), show=hit)

    def _search_failed(self, error: OrchestraError) -> None:
        self._searching.end()
        self._tell(str(error))

    def _save(self, target: str) -> None:
        looked = self._reading.looked
        if looked is None or not target.strip():
            return
        if self._readonly:
            self._tell(_READ_ONLY)
        else:
            self._saving.begin(Saving(looked.chosen.paths, Path(target.strip())))

    def _save_failed(self, error: OrchestraError) -> None:
        self._saving.end()
        self._tell(str(error))
