"""What the screen knows of the registry: looked up again and again in the background thread.

Asks for a page of runs, not for all of them: the newest that match, and all that are at work.
While others write, only the rows of runs that have not ended are read again each time: what the
ended ones say changes hardly ever, and is read again soon.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestra.registry.rows import RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.board import Board, Doing, RunView
from orchestra.schedule.listing import any_runs
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.schedule.selection import Runs

#: Runs on a page; what is beyond is found by filter or another order.
PAGE = 1000
#: Rows that the first paint waits for.
FIRST_PAGE = 60
#: So old may the order of the page, and what ended runs say, become while others write.
WHOLE_EVERY_S = 5.0
_UNFINISHED = frozenset(RunState) - ENDED


@dataclass(frozen=True)
class Wanted:
    """Which runs, in which order."""

    query: str = ""
    sort: str = ""
    """As `orchestra ls --sort` takes it; empty: newest first."""
    limit: int = PAGE


@dataclass(frozen=True)
class Found:
    """The answer. `total` counts what matches, `counts` all runs, whether they match or not."""

    wanted: Wanted
    views: tuple[RunView, ...]
    total: int
    counts: Mapping[Doing, int]
    read_at: float  # monotonic s
    others: Mapping[str, RunView | None] = field(default_factory=dict)
    """Those asked for by id that are not among `views`; None: there is no such run any more."""


@dataclass(frozen=True)
class _Page:
    wanted: Wanted
    rows: list[RunRow]
    total: int
    timed: bool
    """What matches changes by itself, as runs grow older."""
    ended: Mapping[Doing, int]
    """How many of all runs have ended, and how."""
    unfinished: dict[str, RunRow]
    """All runs that have not ended, on the page or not."""
    whole_at: float  # monotonic s, when all of it was read
    generation: tuple[int, int]  # of the registry
    whole_generation: tuple[int, int]  # ... at that time

    def is_due(self, generation: tuple[int, int]) -> bool:
        """Whether all of it is to be read again."""
        late = time.monotonic() - self.whole_at >= WHOLE_EVERY_S
        return late and (self.timed or generation != self.whole_generation)

    def updated(self, unfinished: dict[str, RunRow], generation: tuple[int, int]) -> _Page:
        """With these rows in their places."""
        return replace(
            self,
            rows=[unfinished.get(row.id, row) for row in self.rows],
            unfinished=unfinished,
            generation=generation,
        )


class Watcher:
    """Lives in one background thread: call all but the constructor there."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry: Registry | None = None
        self._runs: Runs | None = None
        self._page: _Page | None = None
        self._distrusted = False
        self._had_runs = False
        self._board = Board(workspace.runs)
        self._alone = Board(workspace.runs)  # for the run of the detail screen

    def look(self, wanted: Wanted, others: Sequence[str] = ()) -> Found:
        """The runs now; `others`: ids of runs to tell of even where they don't match.

        Raises:
            UsageError: the query can't be read; the registry was written by a newer orchestra.
            OrchestraError: the registry is damaged, locked or can't be read.
        """
        if not any_runs(self._workspace):
            if self._had_runs:
                raise OrchestraError(
                    f"the runs are gone: neither a registry nor a run folder in "
                    f"{self._workspace.runs.path}; what is shown is the last that was seen"
                )
            return Found(wanted, (), 0, {}, time.monotonic())
        self._had_runs = True
        try:
            registry = self._open()
            page = self._page = self._read(registry, wanted)
            return self._found(registry, page, others)
        except OrchestraError:
            self._forget_registry()
            raise

    def distrust(self) -> None:
        """Read all rows anew at the next look: an action was done. From any thread."""
        self._distrusted = True

    def look_at(self, run_id: str) -> RunView:
        """One run now (NotFoundError, and as `look`)."""
        try:
            registry = self._open()
            (view,) = self._alone.view(registry, [registry.get_run(run_id)])
        except OrchestraError:
            self._forget_registry()
            raise
        return view

    def close(self) -> None:
        """Close all that is open."""
        self._board.close()
        self._alone.close()
        self._forget_registry()

    def _found(self, registry: Registry, page: _Page, others: Sequence[str]) -> Found:
        """The runs of the page, and of those that are not on it what is to be told."""
        shown = {row.id for row in page.rows}
        asked = {run_id: _row(registry, page, run_id) for run_id in others if run_id not in shown}
        live = [row for row in page.unfinished.values() if row.state in LIVE]
        beside = {row.id: row for row in (*live, *filter(None, asked.values()))}
        rows = [*page.rows, *(row for run_id, row in beside.items() if run_id not in shown)]
        views = {view.id: view for view in self._board.view(registry, rows)}
        return Found(
            wanted=page.wanted,
            views=tuple(views[row.id] for row in page.rows),
            total=page.total,
            counts=_counts(page, views),
            read_at=time.monotonic(),
            others={run_id: views.get(run_id) for run_id in asked},
        )

    def _open(self) -> Registry:
        if self._registry is None:
            self._registry = open_registry(self._workspace.runs)
        return self._registry

    def _forget_registry(self) -> None:
        self._runs, self._page = None, None
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def _read(self, registry: Registry, wanted: Wanted) -> _Page:
        """The page as it is now; no more of it is read than may have changed."""
        generation = registry.generation()
        page = None if self._distrusted else self._page
        self._distrusted = False
        if page is not None and page.wanted == wanted and not page.is_due(generation):
            if page.generation == generation:
                return page
            unfinished = _unfinished(registry)
            if unfinished.keys() == page.unfinished.keys():
                return page.updated(unfinished, generation)
        return self._read_whole(registry, wanted, generation)

    def _read_whole(self, registry: Registry, wanted: Wanted, generation: tuple[int, int]) -> _Page:
        at, unfinished = time.monotonic(), _unfinished(registry)
        rows, total, timed = self._rows(registry, wanted)
        counts = registry.counts_by_state()
        ended = {Doing(state): count for state, count in counts.items() if state in ENDED}
        return _Page(wanted, rows, total, timed, ended, unfinished, at, generation, generation)

    def _rows(self, registry: Registry, wanted: Wanted) -> tuple[list[RunRow], int, bool]:
        """Of the page, how many match, and whether that changes by itself."""
        if wanted == Wanted(limit=FIRST_PAGE):  # the first paint waits: it loads no filter language
            rows = registry.list_runs(limit=FIRST_PAGE)
            return rows, len(rows), False
        from orchestra.schedule.selection import Runs, selection

        if self._runs is None:
            self._runs = Runs(registry, self._workspace.runs)
        chosen = selection(wanted.query, wanted.sort)
        rows = self._runs.newest_and_unfinished(chosen, limit=wanted.limit)
        total = len(rows) if len(rows) < wanted.limit else self._runs.count(chosen)
        return rows, total, chosen.is_timed


def _unfinished(registry: Registry) -> dict[str, RunRow]:
    """By id, on the page or not."""
    return {row.id: row for row in registry.list_runs(states=_UNFINISHED)}


def _counts(page: _Page, views: Mapping[str, RunView]) -> Counter[Doing]:
    """Of all runs: those at work by what they do, the others by their state."""
    counts = Counter(page.ended)
    for run_id, row in page.unfinished.items():
        view = views.get(run_id)
        counts[view.doing if view else Doing(row.state)] += 1
    return counts


def _row(registry: Registry, page: _Page, run_id: str) -> RunRow | None:
    """Of a run that is not on the page; None if there is none."""
    try:
        return page.unfinished.get(run_id) or registry.get_run(run_id)
    except NotFoundError:
        return None
