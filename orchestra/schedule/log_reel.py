"""What of a log is at hand for a screen: some thousand lines around where one looks.

Each function reads a little more and gives the next reel; meant for a background thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestra.schedule.log_file import Line
from orchestra.schedule.log_fold import Said, fold
from orchestra.schedule.log_search import found_in
from orchestra.schedule.log_view import LogView, Window
from orchestra.wire.terminal import plain

MOST_LINES = 4000
MORE_LINES = 500


@dataclass(frozen=True)
class Reel:
    """Lines of a view. `said`: what of them is shown, folded and filtered."""

    view: LogView
    window: Window
    said: tuple[Said, ...] = ()
    containing: str = ""
    new: int = 0
    """Lines that came since somebody stopped following."""
    restarted: bool = False
    """A file was cut or replaced: this is read anew."""

    def filtered(self, containing: str) -> Reel:
        """Only lines with that text; with an empty one all."""
        return _folded(replace(self, containing=containing))


def last(view: LogView, containing: str = "") -> Reel:
    """The end of a log."""
    return _folded(Reel(view, view.last(MORE_LINES), containing=containing))


def first(view: LogView, containing: str = "") -> Reel:
    """Its beginning."""
    return _folded(Reel(view, view.first(MORE_LINES), containing=containing))


def around(view: LogView, line: Line, containing: str = "") -> Reel:
    """A line and what is before and behind it."""
    return _folded(
        Reel(view, view.around(line.log, line.start, MORE_LINES // 2), containing=containing)
    )


def earlier(reel: Reel) -> Reel:
    """With more lines in front."""
    before = reel.view.before(reel.window.top, MORE_LINES)
    window = replace(before.then(reel.window), marks=before.marks)
    over = len(window.lines) - MOST_LINES
    return _folded(replace(reel, window=window.without_last(over) if over > 0 else window))


def later(reel: Reel) -> Reel:
    """With more lines behind."""
    window = _longer(reel)
    over = len(window.lines) - MOST_LINES
    return _folded(replace(reel, window=window.without_first(over) if over > 0 else window))


def grown(reel: Reel, view: LogView, *, following: bool) -> Reel:
    """With what was written since; the same object if that is nothing.

    Not following, nothing in front is given up for it, and lines that came are counted.
    """
    marks = view.marks()
    known = reel.window.marks
    if marks == known:
        return reel if reel.new == 0 or not following else replace(reel, new=0)
    if any(name in marks and not mark.still_holds(marks[name]) for name, mark in known.items()):
        return replace(last(view, reel.containing), restarted=True)
    reel = replace(reel, view=view)
    if not reel.window.at_end or (not following and len(reel.window.lines) >= MOST_LINES):
        return reel  # it is read when one goes there
    before = len(reel.window.lines)
    while True:
        reel = replace(reel, window=_longer(reel))
        if reel.window.at_end or (not following and len(reel.window.lines) >= MOST_LINES):
            break
        if following:  # far behind: the end is what one wants to see
            return last(view, reel.containing)
    new = 0 if following else reel.new + len(reel.window.lines) - before
    over = len(reel.window.lines) - MOST_LINES if following else 0
    window = reel.window.without_first(over) if over > 0 else reel.window
    return _folded(replace(reel, window=window, new=new))


def _longer(reel: Reel) -> Window:
    """A line that was being written is read again."""
    return reel.window.whole().then(reel.view.after(reel.window.bottom, MORE_LINES))


def _folded(reel: Reel) -> Reel:
    said = fold(reel.window.lines)
    if reel.containing:
        said = [each for each in said if found_in(reel.containing, plain(each.line.text))]
    return replace(reel, said=tuple(said))
