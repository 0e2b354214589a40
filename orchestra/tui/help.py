"""The help screen, made of the same table as the bindings: no key is told that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.keys import format_key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from orchestra.tui.fields import Field
from orchestra.tui.finder import has_words
from orchestra.tui.keys import Key, bindings
from orchestra.tui.text import join, safe

KEYS = (Key("escape", "close", "close", "Close the help.", "help"),)
_KEYS_CELLS = 16


class HelpScreen(ModalScreen[None]):
    """All `keys` by where they are valid; typing narrows them down."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 60%; }
    HelpScreen > Vertical {
        width: 96%; max-width: 100; height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    HelpScreen VerticalScroll { height: 1fr; margin-top: 1; }
    """

    def __init__(self, keys: Sequence[Key], *, readonly: bool = False) -> None:
        super().__init__()
        self._keys = keys
        self._readonly = readonly

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Field(id="query", placeholder="search keys; Escape closes")
            with VerticalScroll(can_focus=False):
                yield Static(id="found")

    def on_mount(self) -> None:
        self.query_one(Field).focus()
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    def on_key(self, event: events.Key) -> None:
        """Arrows and pages move the list while the search has the focus."""
        scroll = self.query_one(VerticalScroll)
        moves = {
            "down": scroll.scroll_down,
            "up": scroll.scroll_up,
            "pagedown": scroll.scroll_page_down,
            "pageup": scroll.scroll_page_up,
        }
        if move := moves.get(event.key):
            move(animate=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)

    def _show(self, query: str) -> None:
        found = matching(self._keys, query)
        text = page(found, readonly=self._readonly) if found else safe(f"no key for {query!r}")
        self.query_one("#found", Static).update(text)


def matching(keys: Iterable[Key], query: str) -> list[Key]:
    """Those in which each word of `query` occurs somewhere."""
    return [
        key
        for key in keys
        if has_words(f"{written(key)} {key.keys} {key.label} {key.help} {key.where}", query)
    ]


def page(keys: Sequence[Key], *, readonly: bool) -> Content:
    """The keys under headings, in the order in which the places come."""
    lines = []
    for where in dict.fromkeys(key.where for key in keys):
        lines += [safe(""), safe(where.capitalize(), "bold $text-primary")]
        lines += [_line(key, readonly=readonly) for key in keys if key.where == where]
    return join(*lines[1:], between="\n")


def written(key: Key) -> str:
    """The keys as they are on a keyboard."""
    return key.show_as or " ".join(format_key(name) for name in key.keys.split(","))


def _line(key: Key, *, readonly: bool) -> Content:
    dead = readonly and key.writes
    told = f"{key.help} (read-only)" if dead else key.help
    style = "$text-muted" if dead else ""
    return join(safe(f"  {written(key).ljust(_KEYS_CELLS)}", "bold"), safe(told, style))
