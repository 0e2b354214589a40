"""Text from outside (names, paths, exception texts, log lines) made harmless for a terminal.

The one sanitiser: nothing that came from outside reaches a terminal or a widget in another way.
Logs keep their colours, as styles of our own; see `coloured`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

LONGEST_LINE = 4096
"""So many characters of one line are shown."""

# C0 and C1 controls (line breaks and tabs too), DEL, other separators of lines, lone surrogates;
# marks that turn text around; letters without ink, tags and other characters nobody can see.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Joiners stand where Arabic and Indic scripts are wrong without them.
_JOINERS = "\u200c\u200d"
_SCRIPTS = "\u0600-\u061b\u061d-\u0dff"
_HARMFUL = re.compile(f"[{_UNSAFE}{_JOINERS}]")
_BELONGS = re.compile(f"[{_SCRIPTS}][{_JOINERS}][{_SCRIPTS}]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TAB = "    "
_NOTE_ROOM = 40  # of the sentence that says what is cut

# Escape sequences as terminals know them, in 7 and 8 bits. One without its end stays, and `clean`
# shows it: what follows it must not vanish.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)(?P<codes>[0-?]*)[ -/]*(?P<final>[@-~])"  # CSI
    "|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\\\|\x9c)"  # OSC ...
    "|\x1b[ -/]+[0-~]"
    "|\x1b[0-OQ-WYZ\\\\`-~]"
)
_SGR = re.compile("[0-9;:]{0,200}")
_BEGINS = re.compile("[\x1b\x90\x98\x9b\x9d-\x9f]")
#: They pick the picture of the character before them; terminals differ in how wide that is.
_PICTURES = re.compile("[\ufe0e\ufe0f]")

Colour = int | tuple[int, int, int]
"""Of the palette of 256, or red, green and blue."""


@dataclass(frozen=True)
class Style:
    """How a part of a line is painted; None: as the terminal does by itself."""

    foreground: Colour | None = None
    background: Colour | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False

    def sgr(self) -> str:
        """The escape sequence that begins it; empty for the plain style."""
        if self == PLAIN:
            return ""
        flags = (self.bold, self.dim, self.italic, self.underline, self.reverse)
        codes = [code for code, flag in zip((1, 2, 3, 4, 7), flags, strict=True) if flag]
        codes += _codes(self.foreground, 38)
        codes += _codes(self.background, 48)
        return f"\x1b[{';'.join(map(str, codes))}m"


PLAIN = Style()


def clean(text: str, longest: int | None = None) -> str:
    """`text` on one line without anything a terminal would obey: printed as its escape.

    Args:
        longest: at most so many characters; then the last ones say how many were cut.
    """
    if longest is not None and len(text) > longest:
        return _cut(text, longest)
    shown = text
    if not (text.isascii() and text.isprintable()):
        shown = _HARMFUL.sub(_escape, text)
    return shown if longest is None or len(shown) <= longest else _cut(text, longest)


def clean_lines(text: str) -> str:
    """`clean` of each line; line breaks and tabs stay."""
    return "\n".join(clean(line.replace("\t", _TAB)) for line in text.split("\n"))


def collapse(line: str) -> str:
    """What is left of a line that was overwritten: the text after its last carriage return, the
    ones at its end apart, without what backspaces took back."""
    line = line.rstrip("\r")
    line = line[line.rfind("\r") + 1 :]
    return _without_erased(line) if "\b" in line else line


def _without_erased(line: str) -> str:
    kept: list[str] = []
    for char in line:
        if char != "\b":
            kept.append(char)
        elif kept:
            kept.pop()
    return "".join(kept)


def coloured(line: str, longest: int = LONGEST_LINE) -> list[tuple[str, Style]]:
    """A log line in harmless parts, each with the style its SGR codes asked for.

    Other escape sequences (links, titles, the clipboard, moves of the cursor) are left out.
    """
    if len(line) <= longest and line.isascii() and line.isprintable():
        return [(line, PLAIN)]  # nearly all are
    parts = []
    room, cut = longest, max(0, len(line) - longest * 4)  # most of it may be escape sequences
    for text, style in _painted(line[: longest * 4]):
        shown = clean(_PICTURES.sub("", text.replace("\t", _TAB)))
        parts.append((shown, _legible(style)))
        room -= len(shown)
    return parts if room >= 0 and not cut else _shortened(parts, longest, cut)


def plain(line: str, longest: int = LONGEST_LINE) -> str:
    """A log line as `coloured` has it, without the styles."""
    return "".join(text for text, _ in coloured(line, longest))


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in _NAMES:
        return _NAMES[char]
    if char in _JOINERS and _BELONGS.match(match.string, max(0, match.start() - 1)):
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cut(text: str, longest: int) -> str:
    """The beginning of `text`, no escape of it in halves, and how much is missing."""
    room, kept = longest - _NOTE_ROOM, 0
    for match in _HARMFUL.finditer(text, 0, longest):
        needed = match.start() - kept + len(_escape(match))
        if needed > room:
            break
        room, kept = room - needed, match.end()
    following = _HARMFUL.search(text, kept, longest)
    kept += min(room, (following.start() if following else len(text)) - kept)
    return clean(text[:kept]) + _note(len(text) - kept)


def _shortened(parts: list[tuple[str, Style]], longest: int, cut: int) -> list[tuple[str, Style]]:
    """The first of `parts`, and how much is missing; `cut` characters are missing already."""
    kept, room = [], longest - _NOTE_ROOM
    for text, style in parts:
        shown = text[: max(0, room)].rstrip(_JOINERS)
        kept.append((shown, style))
        room -= len(text)
        cut += len(text) - len(shown)
    return [*kept, (_note(cut), PLAIN)]


def _note(cut: int) -> str:
    return f" ... {cut} characters cut"


def _painted(line: str) -> Iterator[tuple[str, Style]]:
    """The text between escape sequences, and the style it is in."""
    style, at = PLAIN, 0
    for match in _SEQUENCE.finditer(line) if _BEGINS.search(line) else ():
        if match.start() > at:
            yield line[at : match.start()], style
        at = match.end()
        if match["final"] == "m" and _SGR.fullmatch(match["codes"]):
            style = _applied(style, match["codes"])
    if at < len(line):
        yield line[at:], style


@lru_cache(maxsize=1024)
def _applied(style: Style, codes: str) -> Style:
    """`style` after one SGR sequence; codes we do not know change nothing."""
    words = codes.replace("::", ":").replace(":", ";").split(";")
    numbers = [int(word[:4] or 0) for word in words]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            style = PLAIN
        elif code in (38, 48, 58):
            colour = _extended(numbers)
            if code == 38:
                style = replace(style, foreground=colour)
            elif code == 48:
                style = replace(style, background=colour)
        else:
            style = replace(style, **_CHANGES.get(code, {}))
    return style


def _extended(numbers: list[int]) -> Colour | None:
    """The colour that `5;INDEX` or `2;R;G;B` name, taken off the front."""
    kind, *values = numbers[:4]
    del numbers[: 2 if kind == 5 else 4]
    if any(value > 255 for value in values):
        return None
    if kind == 5 and values:
        return values[0]
    return (values[0], values[1], values[2]) if kind == 2 and len(values) == 3 else None


def _legible(style: Style) -> Style:
    """No text in the colour of its ground."""
    if style.foreground is None or style.foreground != style.background:
        return style
    return replace(style, foreground=None, background=None)


def _codes(colour: Colour | None, ground: int) -> list[int]:
    if colour is None:
        return []
    if isinstance(colour, int):
        # The first 16 by their short codes: terminals of few colours know them too.
        if colour < 16:
            return [ground - 8 + colour if colour < 8 else ground + 44 + colour]
        return [ground, 5, colour]
    return [ground, 2, *colour]


#: What the SGR codes change that stand for themselves.
_CHANGES: dict[int, dict[str, Any]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"reverse": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"reverse": False},
    39: {"foreground": None},
    49: {"background": None},
    **{30 + n: {"foreground": n} for n in range(8)},
    **{40 + n: {"background": n} for n in range(8)},
    **{90 + n: {"foreground": 8 + n} for n in range(8)},
    **{100 + n: {"background": 8 + n} for n in range(8)},
}
