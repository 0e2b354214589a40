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
<<<<<<< HEAD
from orchestra.tui.pane import Focus, Pane, in_sight
from orchestra.tui.text import safe
=======
from orchestra.tui.panes.followed_log import FollowedLog
>>>>>>> f2

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

<<<<<<< HEAD
    # What is looked at

    def show(self, focus: Focus) -> None:
        if focus.run is None:
            self._choice = self._reading.looked = None
            self._draw()
        elif self._choice is None or self._choice.key.run_id != focus.run.id:
            self.open(focus.run.id)

    def open(
        self,
        run_id: str,
        *,
        attempt: int | None = None,
        rank: int | None = None,
        evaluation: int | None = None,
    ) -> None:
        """Show the end of that log."""
        log = ALL if rank is None else f"rank{rank}"
        self._choose(LogChoice(JobKey(run_id, evaluation), attempt, log))

    def _choose(self, choice: LogChoice) -> None:
        if self._choice is None or choice.key != self._choice.key:
            self._reading.looked = self._lines.hit = None
        self._choice, self._said = choice, ""
        self._searching.end()
        self.action_end()

    # Reading

    def _poll(self) -> None:
        seen = in_sight(self.screen) and self.is_on_screen and self.size.height
        if not self._reading.busy and seen:
            self._read_on()

    def _read_on(self) -> None:
        """What was written since; the next attempt after a restart; other lines by the filter."""
        following = self._following
        if self._choice is not None:
            self._reading.ask(
                Question(
                    self._choice,
                    self._filter,
                    on=lambda reel, view: log_reel.grown(reel, view, following=following),
                    end=following,
                )
            )

    def _jump(
        self, jump: Callable[[LogView, str], Reel], *, end: bool = False, show: Line | None = None
    ) -> None:
        """Read elsewhere in the log."""
        if self._choice is not None:
            self._reading.ask(Question(self._choice, self._filter, jump, end=end, show=show))

    def _read_more(self) -> None:
        """What is at hand comes near; what is filtered waits for scrolling."""
        lines, reel = self._lines, self._reading.reel
        if self._choice is None or reel is None or self._reading.busy or self._following:
            return
        if lines.is_near_top and not reel.window.at_start:
            self._more(log_reel.earlier)
        elif lines.is_near_end and not reel.window.at_end:
            self._more(log_reel.later)

    def _more(self, more: Callable[[Reel], Reel]) -> None:
        assert self._choice is not None
        self._reading.ask(
            Question(
                self._choice, self._filter, on=lambda reel, view: more(replace(reel, view=view))
            )
        )

    def _answered(self, question: Question, looked: Looked) -> None:
        if question.choice != self._choice:
            return
        same = looked.reel is self._reading.reel
        self._reading.looked = looked
        if not same:
            end = question.end and (question.jump is not None or self._following)
            self._draw(end=end, show=question.show)
        if not self._filter:
            self.call_later(self._read_more)  # what waits to be asked comes first

    def show_problem(self, error: OrchestraError) -> None:
        self._tell(str(error))

    # Drawing

    def _draw(self, *, end: bool = False, show: Line | None = None) -> None:
        lines, reel = self._lines, self._reading.reel
        instead = log_words.instead_of_lines(self._choice, self._reading.looked, self._filter)
        lines.display = not instead
        self._none.display = bool(instead)
        self._none.update(safe(instead))
        if reel is not None and self._choice is not None:
            if reel.restarted:
                self._said = "the file was cut or replaced: read anew"
            labelled = self._choice.log == ALL
            anchor = (show.log, show.start) if show else None
            lines.needle, lines.hit = self._needle, anchor or lines.hit
            lines.put(reel.said, labelled=labelled, end=end, show=anchor)
        self._draw_state()

    def _draw_state(self) -> None:
        words = []
        if search := self._searching.work:
            words.append(f"searching, {size(search.searched_bytes)} (Escape ends it)")
        elif self._said:  # in front: the line may be cut
            words.append(self._said)
        if self._reading.looked is not None and self._choice is not None:
            words += log_words.where(self._choice, self._reading.looked)
        words.append("● following" if self._following else "○ not following")
        if self._filter:
            words.append(f"only lines with {self._filter!r}")
        self._state.update(safe("  ".join(words)))
        new = self._reading.reel.new if self._reading.reel else 0
        self._new.display = bool(new) and not self._following
        self._new.update(safe(log_words.new_lines(new)))

    def _tell(self, text: str) -> None:
        self._said = text
        self._draw_state()

    # Moving

    @on(LogLines.Scrolled)
    def _scrolled(self, event: LogLines.Scrolled) -> None:
        event.stop()
        lines, reel = self._lines, self._reading.reel
        if reel is None:
            return
        if event.up:
            self._following = False
        elif lines.is_at_end and reel.window.at_end:
            self._following = True
            self._read_on()
        self._draw_state()
        self._read_more()

    def action_move(self, x: int, y: int) -> None:
        self._lines.move(x=x, y=y)

    def action_page(self, by: int) -> None:
        lines = self._lines
        lines.move(y=by * max(1, lines.size.height - 1))

    def action_sideways(self, by: int) -> None:
        lines = self._lines
        lines.move(x=by * max(1, lines.size.width // 2))

    def action_home(self) -> None:
        self._following = False
        self._jump(log_reel.first)
        self._lines.scroll_to(y=0, animate=False, immediate=True)

    def action_end(self) -> None:
        self._following = True
        self._jump(log_reel.last, end=True)

    def action_follow(self) -> None:
        if self._following:
            self._following = False
            self._draw_state()
        else:
            self.action_end()

    def action_wrap(self) -> None:
        lines = self._lines
        lines.wrap(not lines.wrapped)

    def action_log(self, by: int) -> None:
        if self._reading.looked is not None:
            self._choose(self._reading.looked.chosen.other_log(by))

    def action_attempt(self, by: int) -> None:
        if self._reading.looked is not None:
            self._choose(self._reading.looked.chosen.other_attempt(by))

=======
>>>>>>> f2
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
