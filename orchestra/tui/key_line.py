"""The last line: the keys that are valid here, of the same table as the bindings and the help."""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from orchestra.wire.terminal import clean

_ALWAYS = ("help", "quit", "back")


@dataclass(frozen=True)
class _Shown:
    key: str
    shown: str
    label: str
    enabled: bool
    action: str

    @property
    def cells(self) -> int:
        return len(self.shown) + len(self.label) + 2


class KeyLine(Widget):
    """Keys of what has the focus first, then those of the screen; as many as fit."""

    DEFAULT_CSS = """
    KeyLine { height: 1; dock: bottom; background: $panel; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: list[_Shown] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._look)
        self.call_after_refresh(self._look, self.screen)

    def _look(self, screen: Screen[object]) -> None:
        if self.screen is not screen:
            return
        found, actions = [], set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.show and binding.action not in actions:  # one action may have several keys
                actions.add(binding.action)
                shown = clean(self.app.get_key_display(binding))
                label = clean(binding.description)
                found.append(_Shown(binding.key, shown, label, active.enabled, binding.action))
        if found != self._keys:
            self._keys = found
            self.refresh()

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.size.width
        segments = []
        for item in self._fitting():
            key = base + Style(bold=item.enabled, dim=not item.enabled, color="default")
            segments += [
                Segment(f" {item.shown}", key),
                Segment(f" {item.label}", base + Style(dim=not item.enabled)),
            ]
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        left = 0
        for item in self._fitting():
            if left <= event.x < left + item.cells and item.enabled:
                self.app.simulate_key(item.key)
            left += item.cells

    def _fitting(self) -> list[_Shown]:
        """As many as there is room for; the ways to help and out always."""
        kept = [item for item in self._keys if item.action in _ALWAYS]
        room = self.size.width - sum(item.cells for item in kept) - 1
        first = []
        for item in self._keys:
            if item in kept:
                continue
            room -= item.cells
            if room < 0:
                break
            first.append(item)
        return [*first, *kept]
