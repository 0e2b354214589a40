"""Glyphs, words and colours of states; ASCII in place of what we draw beyond it. Colour is never
the only sign. Pure, without Textual: the first paint needs it before that is loaded.

Colours are from Okabe and Ito's palette, which people with any colour vision tell apart:
Okabe, M. and Ito, K., Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping
from dataclasses import dataclass

from orchestra.schedule.board import Doing
from orchestra.wire.states import AttemptState, RunState

SKY, GREEN, VERMILION = "#56b4e9", "#00b386", "#ee6d1c"
ORANGE, GREY, PINK = "#e69f00", "#8a8f98", "#cc79a7"


@dataclass(frozen=True)
class Look:
    """How one state is drawn. `ascii` stands in where a font has no more."""

    glyph: str
    ascii: str
    colour: str


LOOKS: Mapping[Doing, Look] = {
    Doing.QUEUED: Look("○", ".", GREY),
    Doing.STARTING: Look("◔", ">", SKY),
    Doing.WORKING: Look("●", "*", SKY),
    Doing.STALLED: Look("▲", "!", ORANGE),
    Doing.RESTARTING: Look("↻", "~", ORANGE),
    Doing.STOPPING: Look("◑", "<", ORANGE),
    Doing.ORPHANED: Look("?", "?", PINK),
    Doing.ELSEWHERE: Look("»", "@", GREY),
    Doing.COMPLETED: Look("✓", "+", GREEN),
    Doing.FAILED: Look("✗", "x", VERMILION),
    Doing.STOPPED: Look("■", "-", GREY),
    Doing.PREEMPTED: Look("‖", "=", PINK),
}

_OF_ATTEMPT = {
    AttemptState.RUNNING: Doing.WORKING,
    AttemptState.COMPLETED: Doing.COMPLETED,
    AttemptState.STOPPED: Doing.STOPPED,
    AttemptState.CRASHED: Doing.FAILED,
    AttemptState.LOST: Doing.ORPHANED,
}

#: Cell for cell, so that nothing moves. Others' letters (of a run's name) are not among them.
_ASCII = {look.glyph: look.ascii for look in LOOKS.values()} | {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),  # eight heights; full and empty of a bar
    **dict.fromkeys("░▒▓╌╍┄┅┈┉·•", "."),
    **dict.fromkeys("─▔▀", "-"),
    **dict.fromkeys("━═", "="),
    **dict.fromkeys("│┃║▏▎▍▌▋▊▉▐▕╎╏┆┇┊┋", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼┏┓┗┛┣┫┳┻╋╔╗╚╝╠╣╦╩╬╭╮╰╯┡┩╇", "+"),
    **dict(zip("↑↓←→▼▶◀◆", "^v<>v><*", strict=True)),
    **dict(zip("…★✔✘≡×°⏎", "~*+x=x <", strict=True)),
    "🔎": "/ ",  # two cells; of Textual's palette
}
_TO_ASCII = str.maketrans(_ASCII)

#: The same hues, darker: on a light ground.
_ON_LIGHT = {
    SKY: "#0072b2",
    GREEN: "#00735a",
    VERMILION: "#b84a00",
    ORANGE: "#a66f00",
    GREY: "#5c6370",
    PINK: "#a0527c",
}


def colour_of(doing: Doing, *, dark: bool) -> str:
    """As `#rrggbb`."""
    colour = LOOKS[doing].colour
    return colour if dark else _ON_LIGHT[colour]


def glyph_of(doing: Doing) -> str:
    """One cell wide."""
    return LOOKS[doing].glyph


def doing_of(state: RunState | AttemptState) -> Doing:
    """What looks like a run's, a launch's or an evaluation's state."""
    if isinstance(state, AttemptState):
        return _OF_ATTEMPT[state]
    return Doing.WORKING if state is RunState.RUNNING else Doing(state)


def in_ascii(text: str) -> str:
    """The same with our own signs in ASCII."""
    return text if text.isascii() else text.translate(_TO_ASCII)


def wants_ascii(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal's font can't be trusted with more: a Linux console, or no UTF-8, unless
    $ORCHESTRA_GLYPHS knows better."""
    encoding = locale.getpreferredencoding(False).lower().replace("-", "")
    asked = environment.get("ORCHESTRA_GLYPHS")
    console = environment.get("TERM") == "linux" and asked not in ("braille", "blocks")
    return asked == "ascii" or console or encoding not in ("utf8", "utf_8")


def wants_light(environment: Mapping[str, str] = os.environ) -> bool:
    """What COLORFGBG says of the ground (set by rxvt, Konsole and others); dark by default."""
    ground = environment.get("COLORFGBG", "").rpartition(";")[2]
    return ground in ("7", "15")
