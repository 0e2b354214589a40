"""The only way from a string to a widget: made harmless, and never read as markup.

Textual parses brackets in plain strings (a run named `[/foo]` would end the program) and lets
escape sequences through to the terminal: widgets get Content, lines of our own drawing Segments.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.content import Content

from orchestra.wire.terminal import LONGEST_LINE, clean, clean_lines


def safe(text: str, style: str = "") -> Content:
    """One line."""
    shown = clean(text, LONGEST_LINE)
    return Content.styled(shown, style) if style else Content(shown)


def safe_lines(text: str, style: str = "") -> Content:
    """Line breaks and tabs stay."""
    return Content.styled(clean_lines(text), style) if style else Content(clean_lines(text))


def join(*parts: Content, between: str = "") -> Content:
    """Parts in one."""
    return Content(between).join(parts)


def segment(text: str, style: Style | None = None) -> Segment:
    """For `render_line`."""
    return Segment(clean(text, LONGEST_LINE), style)
