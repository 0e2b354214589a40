"""What runs are doing, in one word and one sentence each: for `orchestra ls` and the monitor.

Reads the registry, job folders and heartbeat pages; changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestra.registry.rows import JobKey, RunRow
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder
from orchestra.wire.heartbeat import Beat, Pages, Phase, pages_folder
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.job import JobState
from orchestra.wire.stall import read_stall
from orchestra.wire.states import ENDED, LIVE, RunState
from orchestra.workspace import Workspace


class Doing(StrEnum):
    """A run's state as people want it: finer than `RunState` while it lives."""

    QUEUED = "queued"
    STARTING = "starting"
    WORKING = "working"
    STALLED = "stalled"  # silent for longer than usual; its supervisor counts down
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ORPHANED = "orphaned"  # its supervisor died; a conductor or the next command revives it
    ELSEWHERE = "elsewhere"  # lives on another machine
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"


@dataclass(frozen=True)
class RunView:
    """A run at one moment."""

    row: RunRow
    doing: Doing
    note: str
    """A sentence: why it waits, what it is stalled in and what will be done, why it failed."""
    step: int
    """The newest step that is known, of the heartbeats while it lives."""
    silent_s: float | None
    """Since the last heartbeat of the rank that is silent the longest; None: it does not beat."""

    @property
    def tags(self) -> tuple[str, ...]:
        return self.row.tags

    @property
    def remark(self) -> str:
        """The user's note."""
        return self.row.remark

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def is_live(self) -> bool:
        """Whether it needs a supervisor."""
        return self.row.state in LIVE


@dataclass
class _Live:
    """What is kept of a run at work from one look to the next."""

    attempt: int
    supervisor_pid: int | None
    supervisor: ProcessIdentity | None
    folder: Path | None
    """Of the heartbeat pages; None before the first attempt."""
    pages: Pages | None
    beats: dict[int, Beat] = field(default_factory=dict)

    def close(self) -> None:
        if self.pages is not None:
            self.pages.close()


class Board:
    """Looks at runs again and again; of those at work it keeps the heartbeat pages open.

    One per thread. Close it at the end.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._live: dict[str, _Live] = {}

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all pages."""
        self._forget(self._live.keys())

    def view(self, registry: Registry, rows: Sequence[RunRow]) -> list[RunView]:
        """The runs now, in the same order. Pages of runs that are not among them are closed."""
        self._forget(self._live.keys() - {row.id for row in rows if row.state in LIVE})
        now_ns = time.monotonic_ns()
        return [
            self._view_live(registry, row, now_ns)
            if row.state in LIVE
            else RunView(row, Doing(row.state), row.reason, row.step, None)
            for row in rows
        ]

    def _view_live(self, registry: Registry, row: RunRow, now_ns: int) -> RunView:
        live = self._known(registry, row)
        if live.pages is not None:
            live.beats |= {beat.rank: beat for beat in live.pages.read()}
        supervisor = live.supervisor
        if supervisor is not None and not supervisor.is_here():
            note = f"lives on host {supervisor.host}"
            return RunView(row, Doing.ELSEWHERE, note, row.step, None)
        step = max((row.step, *(beat.step for beat in live.beats.values())))
        silent_s = _silence_s(live.beats.values(), now_ns)
        if supervisor is not None and not supervisor.is_alive():
            note = "its supervisor died: the conductor or `orchestra up` revives it"
            return RunView(row, Doing.ORPHANED, note, step, silent_s)
        stall = None if live.folder is None else read_stall(live.folder)
        if stall is not None and row.state is not RunState.STOPPING:
            return RunView(row, Doing.STALLED, stall.sentence(now_ns / 1e9), step, silent_s)
        doing = Doing.WORKING if row.state is RunState.RUNNING else Doing(row.state)
        return RunView(row, doing, row.reason, step, silent_s)

    def _known(self, registry: Registry, row: RunRow) -> _Live:
        """What was found before, if it is of the same attempt and the same supervisor."""
        live = self._live.get(row.id)
        if live is not None:
            if (live.attempt, live.supervisor_pid) == (row.attempt, row.supervisor_pid):
                return live
            live.close()
        attempts = registry.attempts(JobKey(row.id))
        folder = pages_folder(attempts[-1].tag) if attempts else None
        pages = None if folder is None else Pages(folder)
        supervisor = _supervisor(self._runs, row.id)
        live = _Live(row.attempt, row.supervisor_pid, supervisor, folder, pages)
        self._live[row.id] = live
        return live

    def _forget(self, run_ids: Iterable[str]) -> None:
        for run_id in list(run_ids):
            self._live.pop(run_id).close()


def live_json(workspace: Workspace, rows: Sequence[RunRow]) -> dict[str, dict[str, Any]]:
    """What supervisors and heartbeats tell of those runs that are at work, by id: more keys for
    `orchestra ls --json`.
    """
    live = [row for row in rows if row.state in LIVE]
    if not live:
        return {}
    with open_registry(workspace.runs) as registry, Board(workspace.runs) as board:
        return {
            view.id: {
                "doing": view.doing.value,
                "says": view.note,
                "step": view.step,
                "silent_s": view.silent_s,
            }
            for view in board.view(registry, live)
        }


def _silence_s(beats: Iterable[Beat], now_ns: int) -> float | None:
    """Of the rank that is silent the longest and has not said that it is done."""
    working = [beat.monotonic_ns for beat in beats if beat.phase is not Phase.DONE]
    return max(0.0, (now_ns - min(working)) / 1e9) if working else None


def _supervisor(runs: RunsFolder, run_id: str) -> ProcessIdentity | None:
    """According to the job folder; None also where that is damaged."""
    try:
        return JobState.read(runs.run(run_id).job).supervisor
    except (FileNotFoundError, OrchestraError):
        return None


def lasted_s(row: RunRow, now_s: float) -> float | None:
    """From a run's first start to now or, once it has ended, to its end; None before the start."""
    if row.started_at is None:
        return None
    if row.state in ENDED:
        return None if row.ended_at is None else row.ended_at - row.started_at
    return now_s - row.started_at
