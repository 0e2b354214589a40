"""What the screen knows of the registry: looked up again and again in the background thread.

Asks for a page of runs, not for all of them: the newest that match, and all that are at work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from orchestra.registry.rows import RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.board import Board, RunView
from orchestra.schedule.listing import any_runs
from orchestra.wire.errors import OrchestraError
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace

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


class Watcher:
    """Lives in one background thread: call all but the constructor there."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry: Registry | None = None
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
            rows, total = self._rows(registry, wanted)
            views = tuple(self._board.view(registry, rows))
            return Found(wanted, views, total, registry.counts_by_state(), time.monotonic())
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
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def _rows(self, registry: Registry, wanted: Wanted) -> tuple[list[RunRow], int]:
        rows = registry.list_runs(limit=wanted.limit)
        return rows, len(rows)
