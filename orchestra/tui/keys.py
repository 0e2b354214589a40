"""Every key of the monitor in one table: bindings, footer, help and palette are made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

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


def collect(modules: Iterable[ModuleType]) -> tuple[Key, ...]:
    """The keys that these modules declare, in their order; each once."""
    declared = [key for module in modules for key in getattr(module, "KEYS", ())]
    return tuple(dict.fromkeys(declared))


def monitor_modules() -> list[ModuleType]:
    """Every module of the monitor, panes too, by name. Loads those that were not needed yet."""
    package = import_module("orchestra.tui")
    names = sorted(info.name for info in walk_packages(package.__path__, "orchestra.tui."))
    return [import_module(name) for name in names]
