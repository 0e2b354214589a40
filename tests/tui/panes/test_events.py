from __future__ import annotations

import threading
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from textual.content import Content

from orchestra.registry.rows import JobKey, RunRow
from orchestra.tui import table
from orchestra.tui.panes import events
from orchestra.tui.panes.events import EventsPane, JumpTo
from orchestra.tui.table import Lines
from orchestra.wire.errors import OrchestraError
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState
from tests.chaos.sandbox import Sandbox
from tests.schedule.conftest import sandbox
from tests.tui.showing import Shown, driven, focus_on, seen, showing, until

__all__ = ["sandbox"]

KEY = JobKey("one")


@pytest.fixture
def run(sandbox: Sandbox) -> Sandbox:
    sandbox.add_run(run_id="one")
    return sandbox


def row(run: Sandbox) -> RunRow:
    with run.registry() as registry:
        return registry.get_run("one")


def attempt(run: Sandbox, number: int, reason: str, rank: int = 0) -> None:
    now = time.time() + number
    begun = Attempt(number, f"t{number}", 2, (), now)
    with run.registry() as registry:
        registry.start_attempt(KEY, begun)
        failed = {"rank": rank}
        state = AttemptState.CRASHED
        registry.end_attempt(
            KEY, Attempt(number, "t", 2, (), now, state, reason, now + 0.1, failure=failed)
        )


class Listening(Shown):
    def on_jump_to(self, message: JumpTo) -> None:
        self.messages.append((message.run_id, message.attempt, message.rank, message.evaluation))


def events_of(run: Sandbox) -> AbstractAsyncContextManager[tuple[Any, Any]]:
    return showing(lambda reader: EventsPane(run.workspace, reader), app=Listening)


@driven
async def test_newest_last_wrapped_and_harmless(run: Sandbox) -> None:
    with run.registry() as registry:
        registry.add_event("one", "notice", "[/foo] \x1b]52;c;eA==\x07 " + "word " * 40 + "end")
    async with events_of(run) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        text = await seen(pilot, "[/foo] \\x1b]52", "end", "◆ state")
        assert "\x1b]" not in text
        assert all(line.cell_length <= app.shown.width for line in app.shown.lines.lines)


@driven
async def test_enter_on_a_failure_jumps_to_its_log(run: Sandbox) -> None:
    attempt(run, 1, "boom", rank=1)
    attempt(run, 2, "bang")
    async with events_of(run) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "✘", "boom", "bang")
        app.shown.focus()
        await pilot.press("n", "enter")
        await until(pilot, lambda: app.messages == [("one", 1, 1, None)])
        await pilot.press("n", "enter")
        await until(pilot, lambda: app.messages[1:] == [("one", 2, 0, None)])
        await pilot.press("N", "enter")
        await until(pilot, lambda: app.messages[2:] == [("one", 1, 1, None)])


@driven
async def test_new_events_are_followed_until_one_scrolls_away(run: Sandbox) -> None:
    def tell(*numbers: int) -> None:
        with run.registry() as registry:
            for number in numbers:
                registry.add_event("one", "notice", f"number {number:03d}")

    tell(*range(60))
    async with events_of(run) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "number 059")
        tell(60)
        app.shown.again()
        await seen(pilot, "number 060")
        app.shown.focus()
        await pilot.press("home")
        await seen(pilot, "number 000")
        tell(61)
        lines: Lines = app.shown.lines
        before = len(lines.lines)
        app.shown.again()
        await until(pilot, lambda: len(lines.lines) > before)
        assert "number 000" in app.text and "number 061" not in app.text


@driven
async def test_nothing_new_is_not_drawn_again_and_an_event_is_wrapped_once_and_elsewhere(
    run: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run.registry() as registry, registry.bulk():
        for number in range(50):
            registry.add_event("one", "notice", f"of the first look {number}")
    wrapped: list[tuple[str, int]] = []
    threads: set[threading.Thread] = set()

    def wrap(text: str, width: int, style: str = "") -> list[Content]:
        wrapped.append((text, width))
        threads.add(threading.current_thread())
        return table.wrapped(text, width, style)

    monkeypatch.setattr(events, "wrapped", wrap)
    async with events_of(run) as (app, pilot):
        drawn: list[int] = []
        looked: list[int] = []
        replace, look = app.shown.lines.replace, app.shown.look

        def replaced(lines: Any, *more: Any, **named: Any) -> None:
            drawn.append(len(lines))
            replace(lines, *more, **named)

        def counted(run_id: str) -> Any:
            looked.append(1)
            return look(run_id)

        monkeypatch.setattr(app.shown.lines, "replace", replaced)
        monkeypatch.setattr(app.shown, "look", counted)
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "of the first look 49")
        before = len(drawn)
        for count in range(2, 5):
            app.shown.again()
            await until(pilot, lambda count=count: len(looked) >= count)
        with run.registry() as registry:
            registry.add_event("one", "notice", "of the last look")
        app.shown.again()
        await seen(pilot, "of the last look")
        assert len(drawn) == before + 1
        assert len(wrapped) == len(set(wrapped)) > 50
        assert threading.main_thread() not in threads


@driven
async def test_what_was_found_comes_back_after_a_problem(run: Sandbox) -> None:
    async with events_of(run) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "◆ state")
        app.shown.show_problem(OrchestraError("the disk is away"))
        await seen(pilot, "the disk is away")
        app.shown.again()
        await seen(pilot, "◆ state")


@driven
async def test_a_click_chooses_and_a_second_one_jumps(run: Sandbox) -> None:
    attempt(run, 1, "boom", rank=1)
    async with events_of(run) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        text = await seen(pilot, "boom")
        y = next(n for n, line in enumerate(text.splitlines()) if "boom" in line)
        await pilot.click(Lines, offset=(5, y))
        assert app.messages == []
        await pilot.click(Lines, offset=(5, y))
        await until(pilot, lambda: app.messages == [("one", 1, 1, None)])
