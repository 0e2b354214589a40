"""What the screen knows of the registry: looked up again and again in the background thread.

Asks for a page of runs, not for all of them: the newest that match, and all that are at work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestra.registry.rows import RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.board import Board, RunView
from orchestra.schedule.listing import any_runs
from orchestra.wire.errors import OrchestraError
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace

if TYPE_CHECKING:
    from orchestra.schedule.selection import Runs

#: Runs on a page; what is beyond is found by filter or another order.
PAGE = 1000
#: Rows that the first paint waits for.
FIRST_PAGE = 60


@dataclass(frozen=True)
class Wanted:
    """Which runs, in which order."""

    query: str = ""
    sort: str = ""
    """As `orchestra ls --sort` takes it; empty: newest first."""
    limit: int = PAGE


@dataclass(frozen=True)
class Found:
    """The answer. `total` counts what matches, `counts` all runs by state."""

    wanted: Wanted
    views: tuple[RunView, ...]
    total: int
    counts: dict[RunState, int]
    read_at: float  # monotonic s


@dataclass(frozen=True)
class _Page:
    rows: list[RunRow]
    total: int
    counts: dict[RunState, int]


class Watcher:
    """Lives in one background thread: call all but the constructor there."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry: Registry | None = None
        self._runs: Runs | None = None
        self._last: tuple[Wanted, tuple[int, int], _Page] | None = None
        self._board = Board(workspace.runs)
        self._alone = Board(workspace.runs)  # for the run of the detail screen

    def look(self, wanted: Wanted) -> Found:
        """The runs now.

        Raises:
            UsageError: the query can't be read; the registry was written by a newer orchestra.
            OrchestraError: the registry is damaged, locked or can't be read.
        """
        if self._registry is None and not any_runs(self._workspace):
            return Found(wanted, (), 0, {}, time.monotonic())
        try:
            registry = self._open()
            page = self._page(registry, wanted)
            views = tuple(self._board.view(registry, page.rows))
            return Found(wanted, views, page.total, page.counts, time.monotonic())
        except OrchestraError:
            self._forget_registry()
            raise

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

    def _open(self) -> Registry:
        if self._registry is None:
            self._registry = open_registry(self._workspace.runs)
        return self._registry

    def _forget_registry(self) -> None:
        self._runs, self._last = None, None
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def _page(self, registry: Registry, wanted: Wanted) -> _Page:
        """The rows; read anew only if somebody has written, or something else is wanted."""
        generation = registry.generation()
        if self._last is not None and self._last[:2] == (wanted, generation):
            return self._last[2]
        rows, total = self._rows(registry, wanted)
        page = _Page(rows, total, registry.counts_by_state())
        self._last = (wanted, generation, page)
        return page

    def _rows(self, registry: Registry, wanted: Wanted) -> tuple[list[RunRow], int]:
        if wanted == Wanted(limit=FIRST_PAGE):  # the first paint waits: it loads no filter language
            rows = registry.list_runs(limit=FIRST_PAGE)
            return rows, len(rows)
        from orchestra.schedule.selection import Runs, selection

        if self._runs is None:
            self._runs = Runs(registry, self._workspace.runs)
        chosen = selection(wanted.query, wanted.sort)
        rows = self._runs.newest_and_unfinished(chosen, limit=wanted.limit)
        return rows, len(rows) if len(rows) < wanted.limit else self._runs.count(chosen)
