"""The log of a run: its end first, following; all ranks as one, or one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.widgets import Input, Static

from orchestra.formats import size
from orchestra.registry.rows import JobKey
from orchestra.schedule import log_reel
from orchestra.schedule.log_choice import ALL, ChosenLogs, LogChoice, chosen_logs
from orchestra.schedule.log_file import Line
from orchestra.schedule.log_reel import Reel
from orchestra.schedule.log_save import Saving
from orchestra.schedule.log_search import Search
from orchestra.schedule.log_view import LogView
from orchestra.tui.keys import Key, bindings
from orchestra.tui.log_lines import LogLines, measure
from orchestra.tui.pane import Focus, Pane, in_sight
from orchestra.tui.text import safe

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

_POLL_S = 0.25
_SLICE_S = 0.06  # of searching and saving: others want the reader too

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


@dataclass(frozen=True)
class _Looked:
    """What the reader found."""

    chosen: ChosenLogs
    reel: Reel


def _looked(chosen: ChosenLogs, reel: Reel) -> _Looked:
    """Still in the reader's thread."""
    measure(reel.said)
    return _Looked(chosen, reel)


class LogPane(Pane):
    """Follows the log of the run under the cursor. All reading is the reader's."""

    key = "log"
    title = "log"
    BINDINGS: ClassVar[list[Any]] = bindings(KEYS)
    DEFAULT_CSS = """
    LogPane { layout: vertical; height: 1fr; }
    LogPane > .line { height: 1; width: 1fr; color: $text-muted; }
    LogPane > #log-new { height: 1; width: 1fr; background: $accent; color: $text; display: none; }
    LogPane > #log-none { height: 1fr; width: 1fr; padding: 1 2; display: none; }
    LogPane > Input { padding: 0 1; display: none; }
    """

    def __init__(self, workspace: Workspace, reader: Background, *, readonly: bool = False) -> None:
        super().__init__(workspace, reader)
        self._readonly = readonly
        self._state = Static("", classes="line", id="log-state")
        self._lines = LogLines()
        self._none = Static("", id="log-none")
        self._new = Static("", id="log-new")
        self._box = Input(id="log-input", compact=True)
        self._choice: LogChoice | None = None
        self._looked: _Looked | None = None
        self._following = True
        self._filter = ""
        self._needle = ""
        self._asks = ""
        self._said = ""  # of the last search or save
        self._search: Search | None = None
        self._saving: Saving | None = None
        self._busy = False
        self._next: Callable[[], None] | None = None  # waits for the reader

    def compose(self) -> ComposeResult:
        yield self._state
        yield self._lines
        yield self._none
        yield self._new
        yield self._box

    def on_mount(self) -> None:
        """Look four times a second while it can be seen."""
        self.set_interval(_POLL_S, self._poll)

    # What is looked at

    def show(self, focus: Focus) -> None:
        if focus.run is None:
            self._choice = self._looked = None
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
        at_end: bool = True,
    ) -> None:
        """Show that log: the end of it, or its beginning."""
        log = ALL if rank is None else f"rank{rank}"
        self._choose(LogChoice(JobKey(run_id, evaluation), attempt, log), at_end=at_end)

    def _choose(self, choice: LogChoice, *, at_end: bool = True) -> None:
        if self._choice is None or choice.key != self._choice.key:
            self._looked = self._lines.hit = None
        self._choice, self._following, self._said = choice, at_end, ""
        self._search = None
        start = log_reel.last if at_end else log_reel.first
        self._go(lambda view: start(view, self._filter), end=at_end)

    # Reading: one question at a time, so that each goes on from the answer before

    def _poll(self) -> None:
        seen = in_sight(self.screen) and self.is_on_screen and self.size.height
        if not self._busy and self._choice is not None and seen:
            self._read_on()

    def _read_on(self) -> None:
        """What was written since; the next attempt after a restart."""
        choice, old, following = self._choice, self._looked, self._following
        if choice is None:
            return

        def work() -> _Looked:
            chosen = chosen_logs(self.workspace.runs, choice)
            view = LogView(chosen.paths)
            if old is None or old.chosen.attempt != chosen.attempt:
                return _looked(chosen, log_reel.last(view, self._filter))
            return _looked(chosen, log_reel.grown(old.reel, view, following=following))

        self._ask(work, choice, end=following, always=False)

    def _go(
        self, step: Callable[[LogView], Reel], *, end: bool = False, show: Line | None = None
    ) -> None:
        """Read elsewhere in the log."""
        choice = self._choice
        if choice is None:
            return

        def work() -> _Looked:
            chosen = chosen_logs(self.workspace.runs, choice)
            return _looked(chosen, step(LogView(chosen.paths)))

        self._ask(work, choice, end=end, show=show)

    def _ask(
        self,
        work: Callable[[], _Looked],
        choice: LogChoice,
        *,
        end: bool,
        show: Line | None = None,
        always: bool = True,
    ) -> None:
        if self._busy:
            self._next = lambda: self._ask(work, choice, end=end, show=show, always=always)
            return

        def done(looked: _Looked) -> None:
            self._busy = False
            if choice == self._choice:
                same = self._looked is not None and looked.reel is self._looked.reel
                self._looked = looked
                if always or not same:
                    self._draw(end=end and (always or self._following), show=show)
            self._ask_next()
            if not self._filter:
                self._read_more()

        self._busy = True
        self.read(work, done)

    def _ask_next(self) -> None:
        following, self._next = self._next, None
        if following is not None:
            following()

    def show_problem(self, error: OrchestraError) -> None:
        self._busy = False
        self._search = self._saving = None
        self._tell(str(error))
        self._ask_next()

    # Drawing

    def _draw(self, *, end: bool = False, show: Line | None = None) -> None:
        lines = self._lines
        reel = self._looked.reel if self._looked else None
        missing = self._missing()
        lines.display = not missing
        self._none.display = bool(missing)
        self._none.update(safe(missing))
        if reel is not None and self._choice is not None:
            if reel.restarted:
                self._said = "the file was cut or replaced: read anew"
            labelled = self._choice.log == ALL
            anchor = (show.log, show.start) if show else None
            lines.needle, lines.hit = self._needle, anchor or lines.hit
            lines.put(reel.said, labelled=labelled, end=end, show=anchor)
        self._draw_state()

    def _missing(self) -> str:
        """A sentence instead of lines."""
        if self._choice is None:
            return "No run is selected."
        if self._looked is None:
            return "Reading ..."
        if missing := self._looked.chosen.missing:
            return missing
        reel = self._looked.reel
        if not reel.window.lines:
            return "The log is empty so far."
        if not reel.said:
            return f"No line here contains {self._filter!r}: Escape shows all of them."
        return ""

    def _draw_state(self) -> None:
        words = []
        if self._looked is not None and self._choice is not None:
            chosen, reel = self._looked.chosen, self._looked.reel
            if self._choice.key.evaluation is not None:
                words.append(f"eval {self._choice.key.evaluation}")
            if chosen.attempt:
                words.append(f"attempt {chosen.attempt} of {chosen.attempts[-1]}")
            words.append("all ranks" if self._choice.log == ALL else self._choice.log)
            words.append(size(sum(mark.size for mark in reel.window.marks.values())))
        words.append("● following" if self._following else "○ not following")
        if self._filter:
            words.append(f"only lines with {self._filter!r}")
        if self._search is not None:
            words.insert(0, f"searching, {size(self._search.searched_bytes)} (Escape ends it)")
        elif self._said:  # in front: the line may be cut
            words.insert(0, self._said)
        self._state.update(safe("  ".join(words)))
        new = self._looked.reel.new if self._looked else 0
        self._new.display = bool(new) and not self._following
        many = "+" if new >= log_reel.MOST_LINES // 2 else ""
        self._new.update(
            safe(f" ↓ {new}{many} new line{'s' if new != 1 else ''} - End follows again")
        )

    def _tell(self, text: str) -> None:
        self._said = text
        self._draw_state()

    # Moving

    @on(LogLines.Scrolled)
    def _scrolled(self, event: LogLines.Scrolled) -> None:
        event.stop()
        lines = self._lines
        reel = self._looked.reel if self._looked else None
        if reel is None:
            return
        if event.up:
            self._following = False
        elif lines.is_at_end and reel.window.at_end:
            self._following = True
            self._read_on()
        self._draw_state()
        self._read_more()

    def _read_more(self) -> None:
        """Where the edge of what is at hand comes near; what is filtered waits for scrolling."""
        lines = self._lines
        reel = self._looked.reel if self._looked else None
        if reel is None or self._busy:
            return
        if lines.is_near_top and not self._following and not reel.window.at_start:
            self._go(lambda view: log_reel.earlier(replace(reel, view=view)))
        elif lines.is_near_end and not self._following and not reel.window.at_end:
            self._go(lambda view: log_reel.later(replace(reel, view=view)))

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
        self._go(lambda view: log_reel.first(view, self._filter))
        self._lines.scroll_to(y=0, animate=False, immediate=True)

    def action_end(self) -> None:
        self._following = True
        self._go(lambda view: log_reel.last(view, self._filter), end=True)

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
        if self._looked is not None:
            self._choose(self._looked.chosen.other_log(by))

    def action_attempt(self, by: int) -> None:
        if self._looked is not None:
            self._choose(self._looked.chosen.other_attempt(by))

    # Asking

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Saving is dim and dead where the monitor is read-only."""
        if self._readonly and (action, parameters) == ("ask", ("save",)):
            return None
        return super().check_action(action, parameters)

    def action_ask(self, what: str) -> None:
        if self._readonly and what == "save":
            return
        if self._looked is None or self._choice is None:
            return
        self._asks = what
        box = self._box
        box.placeholder = {"search": "search", "filter": "only lines with", "save": "save to"}[what]
        box.value = {"search": self._needle, "filter": self._filter, "save": self._save_to()}[what]
        box.display = True
        box.focus()

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
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
        elif self._search is not None or self._saving is not None:
            self._search = self._saving = None
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
        reel = self._looked.reel if self._looked else None
        if reel is not None:
            end = self._following
            self._go(lambda view: replace(reel, view=view).filtered(text), end=end)

    # Searching and saving, slice by slice

    def action_next(self, by: int) -> None:
        if self._needle:
            self._find(by)

    def _find(self, by: int, *, first: bool = False) -> None:
        """From the last hit on; the first time from what is on the screen."""
        lines = self._lines
        top, bottom = lines.visible_ends()
        reel = self._looked.reel if self._looked else None
        if reel is None or top is None or bottom is None or not self._needle:
            return
        said = list(reel.said)
        at = next((n for n, each in enumerate(said) if lines.is_hit(each)), None)
        if first or at is None:
            at = said.index(bottom if by < 0 else top)
            at += by < 0
        else:
            at += by > 0
        place = dict(reel.window.top)
        place.update({line.log: line.end for each in said[:at] for line in each.lines})
        self._search = Search(reel.view.paths, self._needle, place, forward=by > 0)
        self._search_on(self._search)

    def _search_on(self, search: Search) -> None:
        def done(over: bool) -> None:
            if search is not self._search:
                return
            if not over:
                self._draw_state()
                self._search_on(search)
                return
            self._search = None
            self._found(search)

        self.read(lambda: search.advance(_SLICE_S), done, slot="-search")

    def _found(self, search: Search) -> None:
        hit = search.hit
        if hit is None:
            where = "below" if search.forward else "above"
            self._draw()
            self._tell(f"{search.needle!r} is not {where}")
            return
        self._following = False
        self._said = f"{search.needle!r}"
        reel = self._looked.reel if self._looked else None
        if reel is not None and any(hit in said.lines for said in reel.said):
            self._draw(show=hit)
        else:
            self._filter = ""  # it may be among what is left out
            self._go(lambda view: log_reel.around(view, hit), show=hit)

    def _save_to(self) -> str:
        assert self._choice is not None and self._looked is not None
        key, log = self._choice.key, self._choice.log
        evaluation = f"-eval{key.evaluation}" if key.evaluation is not None else ""
        return f"{key.run_id}{evaluation}-attempt{self._looked.chosen.attempt}-{log}.log"

    def _save(self, target: str) -> None:
        if self._readonly or self._looked is None or not target.strip():
            return
        self._saving = Saving(self._looked.chosen.paths, Path(target.strip()))
        self._save_on(self._saving)

    def _save_on(self, saving: Saving) -> None:
        def done(over: bool) -> None:
            if saving is not self._saving:
                return
            if over:
                self._saving = None
                self._tell(f"saved {size(saving.saved_bytes)} in {saving.target}")
            else:
                self._tell(f"saving, {size(saving.saved_bytes)} (Escape ends it)")
                self._save_on(saving)

        self.read(lambda: saving.advance(_SLICE_S), done, slot="-save")
