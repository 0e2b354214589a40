"""What people and scripts read: tables, JSON, numbers with units. Data on stdout, talk on stderr.

Everything that came from outside (names, branches, exception texts, log lines) is made harmless
before it is printed; `emit_raw` alone prints what it gets.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from orchestra.wire.terminal import LONGEST_LINE, clean, clean_lines

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "dim": 2, "bold": 1}
STATE_COLOURS = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "restarting": "yellow",
    "stopping": "yellow",
    "queued": "dim",
    "stopped": "dim",
    "preempted": "yellow",
}


def emit(text: str = "") -> None:
    """A line or more of data on stdout."""
    print(clean_lines(text))


def emit_raw(text: str) -> None:
    """Text as it is on stdout: painted, of clean parts; or a log on its way into a file."""
    print(text)


def emit_json(value: Any) -> None:
    """One JSON document on stdout; never coloured. NaN and infinities become null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=True))


def emit_json_line(value: Any) -> None:
    """One JSON document on one line of stdout, at once: for what is followed."""
    print(json.dumps(_finite(value), ensure_ascii=True), flush=True)


def say(text: str) -> None:
    """A sentence for people, on stderr."""
    print(clean_lines(text), file=sys.stderr, flush=True)


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person looks at `stream` right now."""
    return stream.isatty()


def can_ask() -> bool:
    """Whether a question may be put: both ends are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def paint(text: str, colour: str | None, stream: IO[str] | None = None) -> str:
    """`text` in `colour` where the stream is a terminal that wants colour."""
    if colour is None or not wants_colour(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def wants_colour(stream: IO[str]) -> bool:
    """Whether it is a terminal whose user has not said otherwise."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint_state(state: str) -> str:
    """The state's word in its colour."""
    return paint(state, STATE_COLOURS.get(state))


def table(rows: Sequence[Mapping[str, str]], right: Sequence[str] = ()) -> None:
    """Aligned columns without box art on stdout; the keys of the first row are the header."""
    if not rows:
        return
    columns = list(rows[0])
    cells = [{column: clean(row[column], LONGEST_LINE) for column in columns} for row in rows]
    width = {column: max(len(column), *(len(row[column]) for row in cells)) for column in columns}
    last = columns[-1]

    def line(row: Mapping[str, str]) -> str:
        padded = []
        for column in columns:
            text = row[column]
            if column in right:
                padded.append(text.rjust(width[column]))
            else:
                padded.append(text if column == last else text.ljust(width[column]))
        return "  ".join(padded).rstrip()

    emit_raw(paint(line({column: column.upper() for column in columns}), "bold"))
    for row in cells:
        text = line(row)
        if "state" in row:
            text = text.replace(row["state"], paint_state(row["state"]), 1)
        emit_raw(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
