"""Which columns the table shows."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from orchestra.tui.columns import COLUMNS
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import safe

KEYS = (Key("escape", "close", "close", "Done: these columns from now on.", "columns"),)


class ColumnsDialog(ModalScreen[tuple[str, ...]]):
    """Ends with the keys of the chosen columns."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    ColumnsDialog { align: center middle; background: $background 60%; }
    ColumnsDialog > Vertical {
        width: 40; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    ColumnsDialog SelectionList { height: auto; max-height: 18; border: none; }
    """

    def __init__(self, chosen: Collection[str]) -> None:
        super().__init__()
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(safe("Columns: space chooses, Escape is done", "bold"))
            yield SelectionList(
                *(
                    Selection(safe(column.title), column.key, column.key in self._chosen)
                    for column in COLUMNS
                    if column.key != "state"  # always there
                )
            )

    def action_close(self) -> None:
        self.dismiss(tuple(self.query_one(SelectionList).selected))
