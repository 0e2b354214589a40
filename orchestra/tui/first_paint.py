"""The runs table as it will look, in plain escape sequences: seen while Textual is being loaded.

Pure; the cells are those of the table itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from orchestra.tui.columns import (
    BOTH_FROM,
    DEFAULT_COLUMNS,
    GAP,
    LEAST_SIZE,
    MARKS,
    TABLE_SHARE,
    Setting,
    by_key,
    cells_of,
    choose,
    titles_of,
)
from orchestra.tui.looks import colour_of, wants_ascii, wants_light
from orchestra.tui.memory import Layout
from orchestra.tui.watcher import Found

_ALTERNATE = "\x1b[?1049h\x1b[?25l\x1b[H"  # it is blank when one comes to it
NOT_BEGUN = "\x1b[?1049l\x1b[?25h"
"""Undoes it, where the monitor does not come to take over."""
_AROUND = 5  # lines of the screen that are not rows: header, head, note, keys


def first_screen(
    found: Found,
    layout: Layout,
    width: int,
    height: int,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """What to write to a terminal of that size; it stays on the alternate screen."""
    if width < LEAST_SIZE[0] or height < LEAST_SIZE[1]:
        return _ALTERNATE
    table = int(width * TABLE_SHARE) if width >= BOTH_FROM else width
    columns = by_key(layout.columns or DEFAULT_COLUMNS)
    chosen = choose(columns, table - 1)
    setting = Setting(time.time(), wants_ascii(environment))
    dark = not wants_light(environment)
    coloured = environment.get("COLORTERM") in ("truecolor", "24bit")
    coloured = coloured and "NO_COLOR" not in environment
    sort = layout.sort
    head = titles_of(chosen, sort.lstrip("-"), descending=sort.startswith("-"))
    lines = [" orchestra", f"\x1b[1m{' ' * MARKS}{(' ' * GAP).join(head)}\x1b[0m"]
    for view in found.views[: max(0, height - _AROUND)]:
        cells = list(cells_of(view, chosen, setting))
        if coloured:
            cells[0] = f"\x1b[38;2;{_rgb(colour_of(view.doing, dark=dark))}m{cells[0]}\x1b[39m"
        lines.append(" " * MARKS + (" " * GAP).join(cells))
    return _ALTERNATE + "\r\n".join(lines)


def _rgb(colour: str) -> str:
    return ";".join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
