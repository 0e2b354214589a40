"""The lines around the table: who and where, runs by state, GPUs, the age of what is shown; the
sentence about the run under the cursor. They draw what they are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from textual.content import Content
from textual.widget import Widget

from orchestra.formats import duration
from orchestra.schedule.board import Doing, RunView
from orchestra.tui.looks import colour_of, glyph_of
from orchestra.tui.text import join, safe

#: Older than this the data's age is shown as a warning.
OLD_S = 5.0
_MOST_QUERY = 30
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
    query: str = ""
    """The filter; empty: none."""
    shown: int = 0
    total: int = 0
    """Runs on the page, and those that there are (of the filter)."""


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
        right = [_age(facts.age_s)]
        if facts.total > facts.shown:
            right.insert(0, safe(f"{facts.shown} of {facts.total} runs", "$text-muted"))
        if facts.query:
            right.insert(0, safe(f"/ {facts.query}"[:_MOST_QUERY], "bold $accent"))
        if facts.readonly:
            right.append(safe("READ-ONLY", "bold $warning"))
        end = join(*right, between="  ")
        room = self.size.width - 2 - end.cell_length - 2
        start = next(
            (line for line in self._variants(facts) if line.cell_length <= room),
            self._left(facts, facts.host, words=False).truncate(max(0, room), ellipsis=True),
        )
        gap = self.size.width - 2 - start.cell_length - end.cell_length
        return join(start, Content(" " * max(1, gap)), end)

    def _variants(self, facts: Facts) -> Iterator[Content]:
        """From all there is to tell to the least."""
        yield self._left(facts, f"{facts.host}  {facts.workspace}", words=True)
        yield self._left(facts, facts.host, words=True)
        yield self._left(facts, facts.host, words=False)

    def _left(self, facts: Facts, where: str, *, words: bool) -> Content:
        parts = [safe("orchestra", "bold"), safe(where, "$text-muted")]
        dark = self.app.current_theme.dark
        for doing in _SHOWN:
            if count := facts.counts.get(doing, 0):
                word = f" {doing.value}" if words else ""
                text = f"{glyph_of(doing, plain=self._plain)} {count}{word}"
                parts.append(safe(text, colour_of(doing, dark=dark)))
        if facts.gpus:
            parts.append(safe(facts.gpus))
        return join(*parts, between="  ")


class NoteLine(Widget):
    """The sentence about the run under the cursor, in as many lines as there are."""

    DEFAULT_CSS = """
    NoteLine { height: 2; padding: 0 1; background: $surface; }
    NoteLine.-instead { height: auto; min-height: 2; max-height: 6; }
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
            self.set_class(instead is not None, "-instead")
            self.refresh(layout=instead is not None)

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
        about = " ".join((*(f"#{tag}" for tag in view.tags), view.remark)).strip()
        if about:
            words.append(safe(about, "$text-muted"))
        return join(*words, between=" ")


def _age(age_s: float | None) -> Content:
    if age_s is None:
        return safe("reading", "$text-muted")
    if age_s < OLD_S:
        return safe("live", "$text-muted")
    return safe(f"data {duration(age_s)} old", "bold $warning")
