"""Fields to type in. What is pasted or filled in from outside is made harmless as it comes in:
Textual would send its escape sequences to the terminal."""

from __future__ import annotations

from dataclasses import replace

from textual.document._document import EditResult
from textual.document._edit import Edit
from textual.widgets import Input, TextArea

from orchestra.wire.terminal import clean, clean_lines


class Field(Input):
    """One line."""

    def __init__(self, value: str = "", *, id: str, placeholder: str = "") -> None:
        super().__init__(clean(value), id=id, placeholder=clean(placeholder), compact=True)

    def validate_value(self, value: str) -> str:
        """Of all that is typed, pasted or set."""
        return clean(value)


class Lines(TextArea):
    """Several lines; Tab goes on to the next field."""

    def __init__(self, text: str = "", *, id: str, placeholder: str = "") -> None:
        super().__init__(
            clean_lines(text),
            id=id,
            placeholder=clean(placeholder),
            tab_behavior="focus",
            compact=True,
        )

    def load_text(self, text: str) -> None:
        """All of it anew."""
        super().load_text(clean_lines(text))

    def edit(self, edit: Edit) -> EditResult:
        """Typed or pasted."""
        return super().edit(replace(edit, text=clean_lines(edit.text)))
