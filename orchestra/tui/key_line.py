"""The last line: the keys that are valid here, of the same table as the bindings and the help."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from orchestra.wire.terminal import clean


class KeyLine(Widget):
    """Keys of what has the focus first, then those of the screen; as many as fit."""

    DEFAULT_CSS = """
    KeyLine { height: 1; dock: bottom; background: $panel; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: list[tuple[str, str, str, bool]] = []  # key, as shown, label, enabled

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
                shown = self.app.get_key_display(binding)
                found.append((binding.key, shown, binding.description, active.enabled))
        if found != self._keys:
            self._keys = found
            self.refresh()

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.size.width
        segments, used = [], 0
        for _, shown, label, enabled in self._keys:
            text = f" {shown} {label}"
            if used + len(text) + 1 > width:
                break
            key = base + Style(bold=enabled, dim=not enabled, color="default")
            segments += [
                Segment(f" {clean(shown)}", key),
                Segment(f" {clean(label)}", base + Style(dim=not enabled)),
            ]
            used += len(text)
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        left = 0
        for key, shown, label, enabled in self._keys:
            right = left + len(shown) + len(label) + 2
            if left <= event.x < right and enabled:
                self.app.simulate_key(key)
            left = right
