"""Turns all that is drawn, Textual's own borders too, into ASCII where the font has no more."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from orchestra.tui.looks import in_ascii


class AsciiSigns(LineFilter):
    """The last thing done to each line; widgets draw as if every font had everything."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]
