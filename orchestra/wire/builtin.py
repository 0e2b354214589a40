"""Where the installed package and the built-in tasks and presets lie. Paths only."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "_builtin"


def package_folder() -> Path:
    """The `orchestra` package that is running."""
    return Path(__file__).parent.parent


def builtin_folder() -> Path:
    """Where the built-in `tasks/` and `presets/` lie: inside the wheel, or beside a checkout."""
    shipped = package_folder() / BUILTIN
    return shipped if shipped.is_dir() else package_folder().parent
