"""The frozen config of the run, key by key, with where each value came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from orchestra.schedule.compare import value_text
from orchestra.schedule.frozen_keys import DEFAULT, FrozenKey, read_keys
from orchestra.tui.fields import Field
from orchestra.tui.keys import Key, bindings
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import aligned, wrapped
from orchestra.tui.text import safe

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.workspace import Workspace

_WIDEST = 48
"""Cells of a value; `orchestra config show RUN` has them whole."""

KEYS = (
    Key("slash", "find", "find", "Only keys, values or origins with these letters.", "config",
        show_as="/"),
    Key("d", "defaults", "defaults", "With or without values that are defaults.", "config"),
    Key("escape", "clear", "clear", "All keys again.", "config", footer=False),
)  # fmt: skip


class ConfigPane(RunPane, can_focus=False):
    """`/` narrows it while one types."""

    key = "config"
    title = "config"
    every_s = 5.0
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    ConfigPane Field { display: none; padding: 0 1; }
    ConfigPane Field.shown { display: block; }
    """

    def __init__(self, workspace: Workspace, reader: Background) -> None:
        super().__init__(workspace, reader)
        self._with_defaults = True
        self._input = Field(id="config-find", placeholder="a part of a key, a value or an origin")

    def compose(self) -> ComposeResult:
        yield self._input
        yield from super().compose()

    def look(self, run_id: str) -> tuple[FrozenKey, ...]:
        return read_keys(self.workspace.runs.run(run_id).job)

    def draw(self, found: Sequence[FrozenKey]) -> None:
        wanted = self._input.value.lower()
        shown = [each for each in found if self._is_wanted(each, wanted)]
        if not shown:
            words = f"no key has {self._input.value!r}" if wanted else "every value is a default"
            self.put(wrapped(f"{words}: Esc shows all", self.width, "dim"))
            return
        header = ["key", "value", "from"]
        self.put(aligned(header, [_row(each) for each in shown]), pinned=1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is somebody else's while there is nothing to clear."""
        if action == "clear":
            return self._input.has_class("shown") or not self._with_defaults
        return True

    def action_find(self) -> None:
        """Type what to look for."""
        self._input.add_class("shown")
        self._input.focus()

    def action_defaults(self) -> None:
        """Leave out defaults, or not."""
        self._with_defaults = not self._with_defaults
        self.redraw()

    def action_clear(self) -> None:
        """Everything."""
        self._input.value = ""
        self._input.remove_class("shown")
        self._with_defaults = True
        self.lines.focus()
        self.redraw()

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        event.stop()
        self.redraw()

    @on(Input.Submitted)
    def _leave(self, event: Input.Submitted) -> None:
        event.stop()
        self.lines.focus()

    def _is_wanted(self, each: FrozenKey, letters: str) -> bool:
        if not self._with_defaults and each.origin == DEFAULT:
            return False
        whole = f"{each.key} {value_text(each.value)} {each.origin}"
        return letters in whole.lower()


def _row(each: FrozenKey) -> list[Content]:
    """What somebody chose stands out."""
    style = "dim" if each.origin == DEFAULT else "bold"
    value = safe(value_text(each.value), style).truncate(_WIDEST, ellipsis=True)
    return [safe(each.key), value, safe(each.origin or "-", "dim")]
