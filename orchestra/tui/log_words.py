"""What the log pane says in words. Pure."""

from __future__ import annotations

from orchestra.formats import size
from orchestra.schedule import log_reel
from orchestra.schedule.log_choice import ALL, LogChoice
from orchestra.tui.log_reading import Looked


def instead_of_lines(choice: LogChoice | None, looked: Looked | None, containing: str) -> str:
    """A sentence, if there is no line to show."""
    if choice is None:
        return "No run is selected."
    if looked is None:
        return "Reading ..."
    if missing := looked.chosen.missing:
        return missing
    if not looked.reel.window.lines:
        return "The log is empty so far."
    if not looked.reel.said:
        return f"No line here contains {containing!r}: Escape shows all of them."
    return ""


def where(choice: LogChoice, looked: Looked) -> list[str]:
    """Which log this is."""
    words = []
    chosen, reel = looked.chosen, looked.reel
    if choice.key.evaluation is not None:
        words.append(f"eval {choice.key.evaluation}")
    if chosen.attempt:
        words.append(f"attempt {chosen.attempt} of {chosen.attempts[-1]}")
    words.append("all ranks" if choice.log == ALL else choice.log)
    words.append(size(sum(mark.size for mark in reel.window.marks.values())))
    return words


def new_lines(count: int) -> str:
    """That came since following ended."""
    many = "+" if count >= log_reel.MOST_LINES // 2 else ""
    return f" ↓ {count}{many} new line{'s' if count != 1 else ''} - End follows again"


def file_name(choice: LogChoice, attempt: int) -> str:
    """To save the log under."""
    key = choice.key
    evaluation = f"-eval{key.evaluation}" if key.evaluation is not None else ""
    return f"{key.run_id}{evaluation}-attempt{attempt}-{choice.log}.log"
