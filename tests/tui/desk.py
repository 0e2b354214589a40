"""A small monitor: one screen whose runs can be acted on, and what its app must have for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from textual.app import App, ComposeResult
from textual.widgets import Static

from orchestra.registry.store import open_registry
from orchestra.schedule.board import Doing, RunView
from orchestra.tui.acting import Acting, Done
from orchestra.tui.actions import Actions
from orchestra.tui.background import Background
from orchestra.workspace import Workspace

PATIENCE_S = 60.0


class Runs(Acting):
    """`ids`: the runs that are marked."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__()
        self.ids = list(ids)
        self.done: list[Done] = []

    def compose(self) -> ComposeResult:
        yield Static("runs")

    def chosen(self) -> tuple[RunView, ...]:
        with open_registry(self.desk.actions.workspace.runs) as registry:
            rows = [registry.get_run(run_id) for run_id in self.ids]
        return tuple(RunView(row, Doing.WORKING, "", row.step, None) for row in rows)

    def on_done(self, event: Done) -> None:
        self.done.append(event)


class Desk(App[None]):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, workspace: Workspace, *ids: str, readonly: bool = False) -> None:
        super().__init__()
        self.actions = Actions(workspace, readonly=readonly)
        self.background_actions = Background("actions", self._deliver)
        self.background_starts = Background("starts", self._deliver)
        self.background_checks = Background("checks", self._deliver)
        self.runs = Runs(ids)
        self.told: list[str] = []

    def get_default_screen(self) -> Runs:
        return self.runs

    def on_load(self) -> None:
        self.background_actions.start()
        self.background_starts.start()
        self.background_checks.start()

    def on_unmount(self) -> None:
        self.background_actions.stop()
        self.background_starts.stop()
        self.background_checks.stop()

    def _deliver(self, answer: Callable[[], None]) -> None:
        if self.is_running:
            self.call_later(answer)  # as the monitor does: nothing waits for the screen

    def notify(self, message: str, **more: Any) -> None:
        assert more.get("markup") is False, "an outside string may hold brackets"
        self.told.append(message)
        super().notify(message, **more)


async def until(what: str, condition: Callable[[], Any]) -> Any:
    """The first true value; the screen goes on meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        await asyncio.sleep(0.01)
    return value
