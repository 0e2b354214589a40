"""The command log: what was done from the monitor, as command lines with what came of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from orchestra.tui.actions import Performed
from orchestra.tui.clipboard import copy
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import join, safe, safe_lines

KEYS = (
    Key("escape,at", "close", "close", "Close the command log.", "command log"),
    Key("enter", "select", "copy", "Copy the command line under the cursor.", "command log"),
)


class CommandsScreen(ModalScreen[None]):
    """The newest last."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS[:1])]
    DEFAULT_CSS = """
    CommandsScreen { align: center middle; background: $background 60%; }
    CommandsScreen > Vertical {
        width: 96%; max-width: 120; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    CommandsScreen OptionList { height: auto; max-height: 1fr; border: none; }
    """

    def __init__(self, log: Sequence[Performed]) -> None:
        super().__init__()
        self._log = log

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(safe("Done from here; Enter copies a command line", "bold"))
            if self._log:
                yield OptionList(*(Option(_line(item)) for item in self._log))
            else:
                yield Static("Nothing yet.")

    def on_mount(self) -> None:
        if self._log:
            found = self.query_one(OptionList)
            found.highlighted = len(self._log) - 1
            found.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        told = copy(self.app, self._log[event.option_index].command)
        self.app.notify(told, markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _line(item: Performed) -> Content:
    when = time.strftime("%H:%M:%S", time.localtime(item.time_s))
    mark = safe("✗ ", "$text-error") if item.failed else safe("✓ ", "$text-success")
    command = join(mark, safe(f"{when}  "), safe(item.command, "bold"))
    return join(command, safe_lines(item.sentence, "$text-muted"), between="\n")
