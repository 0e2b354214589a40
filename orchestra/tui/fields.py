"""Fields to type in: the only ones. What is pasted, filled in or offered from outside is made
harmless as it comes in: Textual would send its escape sequences to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.command import CommandInput
from textual.suggester import SuggestFromList
from textual.widgets import Input, TextArea

from orchestra.tui.text import safe
from orchestra.wire.terminal import clean, clean_lines

if TYPE_CHECKING:  # Textual has no public names for what `edit` takes and gives
    from textual.document._document import EditResult
    from textual.document._edit import Edit


class _Harmless(Input):
    def validate_value(self, value: str) -> str:
        """Of all that is typed, pasted or set."""
        return clean(value)

    def replace(self, text: str, start: int, end: int) -> None:
        """The cursor goes behind what is seen of a paste."""
        super().replace(clean(text), start, end)


class Field(_Harmless):
    """One line."""

    def __init__(
        self, value: str = "", *, id: str, placeholder: str = "", select_on_focus: bool = True
    ) -> None:
        super().__init__(
            clean(value),
            id=id,
            placeholder=clean(placeholder),
            select_on_focus=select_on_focus,
            compact=True,
        )

    def suggest(self, words: Iterable[str]) -> None:
        """Offer the end of one of these while it is typed."""
        self.suggester = SuggestFromList([clean(word) for word in words])


class PaletteField(CommandInput, _Harmless):
    """The line of the command palette."""


class TextField(TextArea):
    """Several lines; Tab goes on to the next field."""

    def __init__(self, text: str = "", *, id: str, placeholder: str = "") -> None:
        super().__init__(
            clean_lines(text),
            id=id,
            placeholder=safe(placeholder),  # a plain string would be read as markup
            tab_behavior="focus",
            compact=True,
        )

    def load_text(self, text: str) -> None:
        """All of it anew."""
        super().load_text(clean_lines(text))

    def edit(self, edit: Edit) -> EditResult:
        """Typed or pasted."""
        return super().edit(replace(edit, text=clean_lines(edit.text)))
