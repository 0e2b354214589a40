"""A log on the screen: its end first, followed; read, drawn and moved in. `log.py` has its keys,
and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.widgets import Static

from orchestra.registry.rows import JobKey
from orchestra.schedule import log_reel
from orchestra.schedule.log_choice import ALL, LogChoice
from orchestra.schedule.log_file import Line
from orchestra.schedule.log_reel import Reel
from orchestra.schedule.log_view import LogView
from orchestra.tui import log_words
from orchestra.tui.log_lines import LogLines
from orchestra.tui.log_reading import Looked, Question, Reading
from orchestra.tui.pane import Focus, Pane, in_sight
from orchestra.tui.text import safe

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

POLL_S = 0.25


class FollowedLog(Pane):
    """Of the run under the cursor; all ranks as one, or one of them. The reader reads it."""

    DEFAULT_CSS = """
    FollowedLog { layout: vertical; height: 1fr; }
    FollowedLog > .line { height: 1; width: 1fr; color: $text-muted; }
    FollowedLog > #log-new {
        height: 1; width: 1fr; background: $accent; color: $text; display: none;
    }
    FollowedLog > #log-none { height: 1fr; width: 1fr; padding: 1 2; display: none; }
    """

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self._state = Static("", classes="line", id="log-state")
        self._lines = LogLines()
        self._none = Static("", id="log-none")
        self._new = Static("", id="log-new")
        self._reading = Reading(
            workspace.runs,
            lambda work, done, failed: self.read(work, done, failed=failed),
            self._answered,
            self.show_problem,
        )
        self._choice: LogChoice | None = None
        self._following = True
        self._filter = ""
        self._needle = ""
        self._said = ""  # of the last search or save

    def compose(self) -> ComposeResult:
        yield self._state
        yield self._lines
        yield self._none
        yield self._new

    def on_mount(self) -> None:
        """Look four times a second while it can be seen."""
        self.set_interval(POLL_S, self._poll)

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
        words = [news] if (news := self._news()) else []  # in front: the line may be cut
        if self._reading.looked is not None and self._choice is not None:
            words += log_words.where(self._choice, self._reading.looked)
        words.append("● following" if self._following else "○ not following")
        if self._filter:
            words.append(f"only lines with {self._filter!r}")
        self._state.update(safe("  ".join(words)))
        new = self._reading.reel.new if self._reading.reel else 0
        self._new.display = bool(new) and not self._following
        self._new.update(safe(log_words.new_lines(new)))

    def _news(self) -> str:
        return self._said

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
