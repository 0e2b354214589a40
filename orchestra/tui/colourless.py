"""NO_COLOR: no colour at all is sent. Textual's own filter would send greys."""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_REVERSED = Style(reverse=True)


class Colourless(LineFilter):
    """What stands on another ground than its widget (a cursor, a choice) is drawn reversed."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, None if style is None else _without(style, background), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def _without(style: Style, background: Color) -> Style:
    ground = style.bgcolor
    bare = style.without_color
    if ground is None or ground.is_default or Color.from_rich_color(ground).rgb == background.rgb:
        return bare
    return bare + _REVERSED
