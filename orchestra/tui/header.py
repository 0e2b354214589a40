"""The lines around the table: who and where, runs by state, GPUs, the age of what is shown; the
sentence about the run under the cursor. They draw what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.content import Content
from textual.widget import Widget

from orchestra.formats import duration
from orchestra.schedule.board import Doing, RunView
from orchestra.tui.looks import colour_of, glyph_of
from orchestra.tui.text import join, safe

#: Older than this the data's age is shown as a warning.
OLD_S = 5.0
_SHOWN = (
    Doing.WORKING,
    Doing.STALLED,
    Doing.RESTARTING,
    Doing.QUEUED,
    Doing.ORPHANED,
    Doing.FAILED,
    Doing.COMPLETED,
)


@dataclass(frozen=True)
class Facts:
    """What the header tells. `age_s` is None before anything was read."""

    host: str
    workspace: str
    counts: Mapping[Doing, int]
    gpus: str = ""
    """`2/4 GPUs free`, or why nothing is known of them."""
    age_s: float | None = None
    readonly: bool = False
    problem: str = ""


class Header(Widget):
    """One line."""

    DEFAULT_CSS = """
    Header { height: 1; background: $panel; padding: 0 1; }
    """

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__(id="header")
        self._plain = plain
        self._facts: Facts | None = None

    def show(self, facts: Facts) -> None:
        """Draw these, if they differ."""
        if facts != self._facts:
            self._facts = facts
            self.refresh()

    def render(self) -> Content:
        facts = self._facts
        if facts is None:
            return Content("orchestra")
        left = [safe("orchestra", "bold"), safe(facts.host, "$text-muted")]
        if self.size.width >= 100:
            left.append(safe(facts.workspace, "$text-muted"))
        dark = self.app.current_theme.dark
        for doing in _SHOWN:
            if count := facts.counts.get(doing, 0):
                word = f" {doing.value}" if self.size.width >= 100 else ""
                text = f"{glyph_of(doing, plain=self._plain)} {count}{word}"
                left.append(safe(text, colour_of(doing, dark=dark)))
        if facts.gpus:
            left.append(safe(facts.gpus))
        right = [_age(facts.age_s)]
        if facts.readonly:
            right.append(safe("READ-ONLY", "bold $warning"))
        start, end = join(*left, between="  "), join(*right, between="  ")
        gap = self.size.width - 2 - start.cell_length - end.cell_length
        return join(start, Content(" " * max(1, gap)), end)


class NoteLine(Widget):
    """The sentence about the run under the cursor, in as many lines as there are."""

    DEFAULT_CSS = """
    NoteLine { height: 2; padding: 0 1; background: $surface; }
    """

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__(id="note")
        self._plain = plain
        self._view: RunView | None = None
        self._instead: Content | None = None

    def show(self, view: RunView | None, instead: Content | None = None) -> None:
        """About this run; `instead`: what is to be said of the table as a whole."""
        if (view, instead) != (self._view, self._instead):
            self._view, self._instead = view, instead
            self.refresh()

    def complain(self, problem: str) -> None:
        """This sentence instead."""
        self.show(self._view, safe(problem, "bold $error"))

    def render(self) -> Content:
        if self._instead is not None:
            return self._instead
        view = self._view
        if view is None:
            return Content("")
        colour = colour_of(view.doing, dark=self.app.current_theme.dark)
        state = safe(f"{glyph_of(view.doing, plain=self._plain)} {view.doing.value}", colour)
        words = [state, safe(f"{view.row.name}", "bold")]
        if view.note:
            words.append(safe(view.note))
        if view.remark:
            words.append(safe(f"({view.remark})", "$text-muted"))
        return join(*words, between=" ")


def _age(age_s: float | None) -> Content:
    if age_s is None:
        return safe("reading", "$text-muted")
    if age_s < OLD_S:
        return safe("live", "$text-muted")
    return safe(f"data {duration(age_s)} old", "bold $warning")
