"""The command palette: every key's action that is valid here, and all runs by name.

Textual's own helpers read markup in what they are given (a run named `[/foo]` would end the
program): matches are marked here, in Content.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from textual import events
from textual.app import ComposeResult
from textual.command import CommandInput, CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from orchestra.schedule.board import RunView
from orchestra.tui.fields import PaletteField
from orchestra.tui.text import join, safe
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from textual.binding import ActiveBinding
    from textual.dom import DOMNode

_MOST_RUNS = 50
_HINT = "a command, or a run by name"


class KnowsRuns(Protocol):
    """What the app has for this."""

    def runs_like(self, query: str) -> Sequence[RunView]:
        """Runs whose name or id the query may mean; of those in memory."""
        ...

    def go_to(self, run_id: str) -> None:
        """Show that run."""
        ...


class Palette(CommandPalette):
    """Textual's, with a field of ours."""

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if isinstance(widget, CommandInput):
                yield PaletteField(placeholder=_HINT, select_on_focus=False)
            else:
                yield widget

    def on_mount(self, event: events.Mount) -> None:
        """Left already: Textual's search would find itself without a list, and end the app."""
        if not self.is_current:
            event.prevent_default()


def palette() -> CommandPalette:
    """To be pushed as a screen."""
    return Palette(providers=[KeyCommands, RunCommands], placeholder=_HINT)


class KeyCommands(Provider):
    """What the keys do that are valid on the screen below; those that are dim are left out."""

    async def discover(self) -> Hits:
        for node, item in self._valid():
            yield DiscoveryHit(_prompt(item), partial(self._run, node, item), text=_title(item))

    async def search(self, query: str) -> Hits:
        for node, item in self._valid():
            title = _title(item)
            score, offsets = self.matcher(query).fuzzy_search.match(query, title)
            if score > 0:
                shown = _prompt(item, offsets)
                yield Hit(score, shown, partial(self._run, node, item), text=title)

    def _valid(self) -> list[tuple[DOMNode, ActiveBinding]]:
        """Ours have an id; each action once."""
        found = {
            item.binding.action: (item.node, item)
            for item in reversed(self.screen.active_bindings.values())
            if item.enabled and item.binding.id and "." in item.binding.id
        }
        return list(reversed(found.values()))

    async def _run(self, node: DOMNode, item: ActiveBinding) -> None:
        await self.app.run_action(item.binding.action, node)


class RunCommands(Provider):
    """Jumping to a run."""

    async def search(self, query: str) -> Hits:
        app = cast("KnowsRuns", self.app)
        for view in list(app.runs_like(query))[:_MOST_RUNS]:
            title = clean(f"{view.row.name} ({view.id})")
            score, offsets = self.matcher(query).fuzzy_search.match(query, title)
            if score > 0:
                shown = join(safe("run "), _marked(title, offsets), safe(f"  {view.doing.value}"))
                yield Hit(score, shown, partial(app.go_to, view.id), text=title)


def _title(item: ActiveBinding) -> str:
    return clean(item.binding.description or item.tooltip)


def _prompt(item: ActiveBinding, offsets: Sequence[int] = ()) -> Content:
    more = safe(f"  {item.tooltip}", "$text-muted") if item.binding.description else safe("")
    return join(_marked(_title(item), offsets), more)


def _marked(text: str, offsets: Sequence[int]) -> Content:
    content = Content(text)
    for offset in offsets:
        content = content.stylize("bold underline", offset, offset + 1)
    return content
