"""Every key of the monitor in one table: bindings, footer, help and palette are made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True)
class Key:
    """One key. `where` is the screen or pane it is valid in; `writes`: refused when read-only."""

    keys: str
    """Comma separated, as Textual names them."""
    action: str
    label: str
    """One or two words for the footer."""
    help: str
    """A sentence."""
    where: str = "everywhere"
    footer: bool = True
    writes: bool = False
    show_as: str = ""
    """How the key is written; default: as Textual does."""


def bindings(keys: Iterable[Key]) -> list[Binding]:
    """For a BINDINGS of Textual."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label,
            show=key.footer,
            key_display=key.show_as or None,
            tooltip=key.help,
            id=f"{key.where}.{key.action}",
        )
        for key in keys
    ]
