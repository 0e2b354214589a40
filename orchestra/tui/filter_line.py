"""The line where a filter is typed: live while typing, kept by Enter, undone by Escape."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from orchestra.tui.fields import Field
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import safe

KEYS = (
    Key("enter", "keep", "keep", "Keep the filter.", "filter"),
    Key("escape", "undo", "undo", "Back to the filter of before.", "filter"),
)


class FilterLine(Horizontal):
    """Hidden until asked for."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; background: $panel; }
    FilterLine > Field { width: 1fr; background: $panel; }
    FilterLine > #filter-mark { width: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    class Changed(Message):
        """The text is another one."""

        def __init__(self, query: str) -> None:
            super().__init__()
            self.query = query

    class Closed(Message):
        """The line is gone."""

    def __init__(self) -> None:
        super().__init__(id="filter")
        self._before = ""

    def compose(self) -> ComposeResult:
        yield Static(safe("/ "), id="filter-mark")
        yield Field(id="filter-input", placeholder="state:failed cfg.optim.lr>1e-4")

    def open(self, query: str) -> None:
        """Show the line with this text in it."""
        self._before = query
        self.display = True
        line = self.query_one(Field)
        line.value = query
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_keep()

    def action_keep(self) -> None:
        self._close()

    def action_undo(self) -> None:
        self.post_message(self.Changed(self._before))
        self._close()

    def _close(self) -> None:
        self.display = False
        self.post_message(self.Closed())
