"""Screens and panes in an app of their own, and what of them is to be seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Footer

from orchestra.registry.rows import RunRow
from orchestra.schedule.board import Doing, RunView
from orchestra.tui.background import Background
from orchestra.tui.pane import Focus, Pane
from orchestra.wire.states import RunState
from tests.tui.loop import driven

_LOOKS = 4000  # of 10 ms and more


class Shown(App[None]):
    """One pane, or one screen, with a reader; messages that nobody handles are kept."""

    def __init__(self, make: Callable[[Background], Pane | Screen[None]]) -> None:
        super().__init__()
        self.reader = Background("reader", self._deliver)
        self.shown = make(self.reader)
        self.messages: list[Any] = []

    def compose(self) -> ComposeResult:
        if isinstance(self.shown, Pane):
            yield self.shown
            yield Footer()

    async def on_mount(self) -> None:
        self.reader.start()
        if isinstance(self.shown, Screen):
            await self.push_screen(self.shown)

    def on_unmount(self) -> None:
        self.reader.stop(timeout_s=10.0)

    def _deliver(self, answer: Callable[[], None]) -> None:
        if self.is_running:
            self.call_later(answer)  # as the monitor does: nothing waits for the screen

    @property
    def text(self) -> str:
        """What is on the screen."""
        strips = self.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)


@asynccontextmanager
async def showing(
    make: Callable[[Background], Pane | Screen[None]],
    size: tuple[int, int] = (80, 24),
    app: type[Shown] = Shown,
) -> AsyncIterator[tuple[Any, Pilot[None]]]:
    made = app(make)
    async with made.run_test(size=size) as pilot:
        yield made, pilot


async def seen(pilot: Pilot[None], *words: str) -> str:
    """The screen's text, once it has all of these, however they are wrapped."""
    for _ in range(_LOOKS):
        text: str = pilot.app.text  # type: ignore[attr-defined]
        if all(word in text or _squeezed(word) in _squeezed(text) for word in words):
            return text
        await pilot.pause(0.01)
    raise AssertionError(f"never saw {words} in:\n{text}")


def _squeezed(text: str) -> str:
    """Without blanks and borders: a long path is cut anywhere, by the length of the folder's."""
    return "".join(text.replace("▏", "").split())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    for _ in range(_LOOKS):
        if condition():
            return
        await pilot.pause(0.01)
    raise AssertionError(f"never came true; the screen:\n{pilot.app.text}")  # type: ignore[attr-defined]


def view(row: RunRow, doing: Doing = Doing.WORKING) -> RunView:
    return RunView(row, doing, "", row.step, None)


def focus_on(row: RunRow | None) -> Focus:
    return Focus(None if row is None else view(row))


__all__ = ["RunState", "Shown", "driven", "focus_on", "seen", "showing", "until", "view"]
