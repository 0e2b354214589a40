"""The two themes: the palette of `looks` on a dark and on a light ground."""

from __future__ import annotations

from textual.theme import Theme

from orchestra.tui.looks import GREEN, ORANGE, PINK, SKY, VERMILION

DARK = Theme(
    name="orchestra-dark",
    primary=SKY,
    secondary=PINK,
    accent=ORANGE,
    warning=ORANGE,
    error=VERMILION,
    success=GREEN,
    foreground="#d8dee9",
    background="#101418",
    surface="#161b21",
    panel="#1f262e",
    dark=True,
)
LIGHT = Theme(
    name="orchestra-light",
    primary="#0072b2",
    secondary="#a0527c",
    accent="#a66f00",
    warning="#a66f00",
    error="#b84a00",
    success="#00735a",
    foreground="#1b1f24",
    background="#fbfbf8",
    surface="#f2f2ee",
    panel="#e4e4de",
    dark=False,
)
