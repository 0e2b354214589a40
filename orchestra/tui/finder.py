"""A line to type in and what matches: finds one of many names by parts of it. Reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from orchestra.tui.fields import Field
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import join, safe

KEYS = (
    Key("down", "move(1)", "next", "The next name that matches.", "finder"),
    Key("up", "move(-1)", "previous", "The name before.", "finder"),
    Key("escape", "leave", "back", "Back to what was shown before.", "finder"),
)
_ROWS = 6


def matching(names: Sequence[str], text: str) -> list[str]:
    """Names with each word of `text` somewhere in them."""
    return [name for name in names if has_words(name, text)]


def has_words(text: str, words: str) -> bool:
    """Whether each of these words is somewhere in the text, whatever the case."""
    return all(word in text.lower() for word in words.lower().split())


class Finder(Vertical):
    """Hidden until `open`."""

    DEFAULT_CSS = """
    Finder { height: auto; display: none; }
    Finder Field { padding: 0 1; }
    Finder Static { height: auto; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    class Previewed(Message):
        """The name the cursor is on; None: nothing matches."""

        def __init__(self, name: str | None) -> None:
            super().__init__()
            self.name = name

    class Closed(Message):
        """`kept`: with Enter; otherwise back to what was before."""

        def __init__(self, kept: bool) -> None:
            super().__init__()
            self.kept = kept

    def __init__(self) -> None:
        super().__init__()
        self._names: Sequence[str] = ()
        self._found: list[str] = []
        self._place = 0

    def compose(self) -> ComposeResult:
        yield Static("", markup=False)
        yield Field(id="metric", placeholder="part of a metric's name", select_on_focus=False)

    def open(self, names: Sequence[str]) -> None:
        """Ask for one of these."""
        self._names = names
        self.display = True
        field = self.query_one(Field)
        field.value = ""
        field.focus()
        self._find("")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self._find(event.value)
            self._preview()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close(kept=bool(self._found))

    def action_move(self, by: int) -> None:
        if self._found:
            self._place = (self._place + by) % len(self._found)
            self._list()
            self._preview()

    def action_leave(self) -> None:
        self._close(kept=False)

    def _close(self, *, kept: bool) -> None:
        self.display = False
        self.post_message(self.Closed(kept))

    def _find(self, text: str) -> None:
        self._found = matching(self._names, text)
        self._place = 0
        self._list()

    def _preview(self) -> None:
        self.post_message(self.Previewed(self._found[self._place] if self._found else None))

    def _list(self) -> None:
        first = max(0, min(self._place - _ROWS // 2, len(self._found) - _ROWS))
        lines = [
            safe(f"> {name}", "bold") if index == self._place else safe(f"  {name}", "$text-muted")
            for index, name in enumerate(self._found[first : first + _ROWS], first)
        ]
        count = f"{len(self._found)} of {len(self._names)} metrics"
        told = safe(count if self._found else "no metric has that in its name", "$text-muted")
        self.query_one(Static).update(join(*lines, told, between="\n"))
