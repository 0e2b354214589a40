"""Instead of a screen that can't be read: how large the terminal must be. Gone when it is."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Static

from orchestra.tui.columns import LEAST_SIZE
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import safe

KEYS = (Key("q,ctrl+c", "leave", "quit", "Leave. Runs go on.", "too small", show_as="q"),)


def is_too_small(size: Size) -> bool:
    """For the table and the lines around it."""
    return size.width < LEAST_SIZE[0] or size.height < LEAST_SIZE[1]


class TooSmall(ModalScreen[None]):
    """Modal: keys of what can't be seen do nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    TooSmall { background: $background; }
    """

    def compose(self) -> ComposeResult:
        width, height = LEAST_SIZE
        yield Static(safe(f"The monitor needs a terminal of {width} x {height} or more. q leaves."))

    def on_resize(self) -> None:
        self._look()

    def on_screen_resume(self) -> None:
        self._look()

    def _look(self) -> None:
        if self.is_current and not is_too_small(self.app.size):
            self.dismiss()

    def action_leave(self) -> None:
        self.app.exit()
