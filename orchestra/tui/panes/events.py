"""What happened to the run, newest last; Enter opens the log of that moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message

from orchestra.registry.store import open_registry
from orchestra.schedule.journal import Entry, Journal
from orchestra.tui.keys import Key, bindings
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import Lines, wrapped
from orchestra.tui.text import join, safe

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.workspace import Workspace

_GLYPHS = {"state": "◆", "attempt": "▶", "hang": "!", "config": "≡", "resume": "↻", "notice": "i"}
_OTHER = "·"
_MOST_WRAPPED = 1 << 15  # events; each is wrapped once
_ERROR, _ERROR_STYLE = "✘", "$text-error"

KEYS = (
    Key("enter", "choose", "log", "Open the log of that attempt, and of the rank that failed.",
        "events"),
    Key("n", "error(1)", "next error", "To the next failure or hang.", "events"),
    Key("N", "error(-1)", "error before", "To the failure or hang before.", "events",
        footer=False),
)  # fmt: skip


class JumpTo(Message):
    """Show the log of this attempt, and of this rank."""

    def __init__(self, run_id: str, attempt: int, rank: int, evaluation: int | None = None) -> None:
        super().__init__()
        self.run_id = run_id
        self.attempt = attempt
        self.rank = rank
        self.evaluation = evaluation
        """None: the training's."""


class EventsPane(RunPane, can_focus=False):
    """The newest stay in sight until one scrolls away from them."""

    key = "events"
    title = "events"
    every_s = 1.0
    follow = True
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    found: Sequence[Entry] = ()

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self._journal = Journal()  # the reader's alone
        self._wrap_cells = 0

    def tick(self) -> None:
        self._wrap_cells = self.width
        super().tick()

    def on_resize(self) -> None:
        """Wrapped anew by the reader, too."""
        if self.run_id is None:
            super().on_resize()
        else:
            self._drawn = None
            self.again()

    def look(self, run_id: str) -> tuple[Entry, ...]:
        with open_registry(self.workspace.runs) as registry:
            found = self._journal.read(registry, run_id)
        for entry in found:  # ahead of `draw`, where it would hold up the screen
            _lines(entry, self._wrap_cells)
        return found

    def draw(self, found: Sequence[Entry]) -> None:
        self.found = found
        if not found:
            self.put(wrapped("nothing has happened to this run yet", self.width, "dim"))
            return
        lines: list[Content] = []
        targets: list[int] = []
        day = ""
        for place, entry in enumerate(found):
            if (date := time.strftime("%Y-%m-%d", time.localtime(entry.time_s))) != day:
                day = date
                lines.append(Content.styled(day, "dim underline"))
                targets.append(-1)
            own = _lines(entry, self._wrap_cells)
            lines += own
            targets += [place] * len(own)
        self.put(lines, [None if target < 0 else target for target in targets])

    def action_error(self, by: int) -> None:
        """To the next one in that direction, from the cursor or from the end."""
        errors = [place for place, entry in enumerate(self.found) if entry.is_error]
        here = self.lines.target
        if by > 0:
            there = next((place for place in errors if here is None or place > here), None)
        else:
            there = next(
                (place for place in reversed(errors) if here is None or place < here), None
            )
        if there is None:
            self.app.bell()
        else:
            self.lines.choose(there)

    def action_choose(self) -> None:
        """The log of the row under the cursor."""
        self.lines.press()

    @on(Lines.Chosen)
    def _jump(self, event: Lines.Chosen) -> None:
        event.stop()
        entry = self.found[event.target]
        if entry.attempt is None or self.run_id is None:
            self.app.bell()
        else:
            self.post_message(JumpTo(self.run_id, entry.attempt, entry.rank, entry.evaluation))


@lru_cache(maxsize=_MOST_WRAPPED)
def _lines(entry: Entry, width: int) -> tuple[Content, ...]:
    """Its time, what it is, and its text in as many lines as that needs."""
    glyph, style = _GLYPHS.get(entry.kind, _OTHER), ""
    if entry.is_error:
        glyph, style = _ERROR, _ERROR_STYLE
    clock = time.strftime("%H:%M:%S", time.localtime(entry.time_s))
    of = f"eval {entry.evaluation} " if entry.evaluation else ""
    head = join(
        safe(clock, "dim"), Content(" "), safe(glyph, style), safe(f" {of}{entry.kind:<8}", style)
    )
    space = head.cell_length + 1
    first, *more = wrapped(entry.text, width - space, style)
    return (join(head, first, between=" "), *(line.pad_left(space) for line in more))
