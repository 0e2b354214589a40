"""Searching and saving from the log pane, slice by slice: others want the reader too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from orchestra.schedule.log_reel import Reel
from orchestra.schedule.log_search import Search
from orchestra.tui.log_lines import LogLines

_SLICE_S = 0.06


class Sliced(Protocol):
    """Long work."""

    def advance(self, budget_s: float) -> bool:
        """Go on for about so long (OrchestraError); True once it is over."""
        ...


Work = TypeVar("Work", bound=Sliced)


class Slices(Generic[Work]):
    """One such work at a time: another one, or `end`, is the end of the one before.

    Args:
        ask: puts a question to the reader, and hands over its answer.
        told: a slice is done.
        over: the work is.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[], bool], Callable[[bool], None]], None],
        told: Callable[[Work], None],
        over: Callable[[Work], None],
    ) -> None:
        self._ask = ask
        self._told = told
        self._over = over
        self.work: Work | None = None

    def begin(self, work: Work) -> None:
        self.work = work
        self._go_on(work)

    def end(self) -> None:
        self.work = None

    def _go_on(self, work: Work) -> None:
        def done(over: bool) -> None:
            if work is not self.work:
                return
            if over:
                self.work = None
                self._over(work)
            else:
                self._told(work)
                self._go_on(work)

        self._ask(lambda: work.advance(_SLICE_S), done)


def search_from(
    reel: Reel, lines: LogLines, needle: str, *, forward: bool, first: bool
) -> Search | None:
    """From the last hit on; the first time from what is on the screen."""
    top, bottom = lines.visible_ends()
    if top is None or bottom is None:
        return None
    said = list(reel.said)
    at = next((place for place, each in enumerate(said) if lines.is_hit(each)), None)
    if first or at is None:
        at = said.index(top if forward else bottom)
        at += not forward
    else:
        at += forward
    place = dict(reel.window.top)
    place.update({line.log: line.end for each in said[:at] for line in each.lines})
    return Search(reel.view.paths, needle, place, forward=forward)
