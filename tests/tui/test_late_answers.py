"""What the background finds out when its screen has been left, or another one is in front."""

from __future__ import annotations

import pytest

from orchestra.registry.store import open_registry
from orchestra.schedule.seen import Seen
from orchestra.tui.actions import Clone, Relabel
from orchestra.tui.detail_screen import DetailScreen
from orchestra.tui.memory import load_layout
from orchestra.tui.panes.log import LogPane
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.tui.gate import answered, asked, held, let_go_at_its_end, waiting
from tests.tui.monitor import Watched, add_runs, monitor
from tests.tui.showing import driven, seen, until

SEEN = Seen("r00000", RunState.COMPLETED, 1, None, frozenset())
RELABEL = Relabel((SEEN,), name="better")
LOG_OF_MAIN, LOG_OF_DETAIL = "3", "3"


@pytest.fixture
def run(workspace: Workspace) -> str:
    """One with a log."""
    (run_id,) = add_runs(workspace, ["good"])
    workspace.runs.run(run_id).job.attempt(1).logs.mkdir(parents=True)
    say(workspace, run_id, "its first line")
    return run_id


def say(workspace: Workspace, run_id: str, line: str) -> None:
    with workspace.runs.run(run_id).job.attempt(1).rank_log(0).open("a") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize("tab", list("123"))
@driven
async def test_answers_for_a_screen_that_was_left_are_dropped(
    workspace: Workspace, run: str, tab: str
) -> None:
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        with held(app.board, app.reader, app.logs):
            await pilot.press(tab)
            await asked(pilot, app.board, "detail")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, DetailScreen))
        await answered(pilot, app.board, app.reader, app.logs)
        await seen(pilot, "good", "live")


@driven
async def test_an_error_for_a_screen_that_was_left_is_dropped(
    workspace: Workspace, run: str
) -> None:
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        with held(app.board):
            await asked(pilot, app.board, "detail")
            with open_registry(workspace.runs) as registry:
                registry.delete_run(run)
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, DetailScreen))
        await answered(pilot, app.board)
        await seen(pilot, "No runs yet")


@driven
async def test_no_question_comes_up_over_another_screen(workspace: Workspace, run: str) -> None:
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good")
        with held(app.background_actions):
            await pilot.press("D")
            await asked(pilot, app.background_actions, "remove")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await answered(pilot, app.background_actions)
        assert isinstance(app.screen, DetailScreen)


@driven
async def test_the_log_of_a_run_alone_takes_nothing_from_the_one_beside_the_table(
    workspace: Workspace, run: str
) -> None:
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good")
        await pilot.press(LOG_OF_MAIN)
        await seen(pilot, "its first line")
        with held(app.logs):
            await asked(pilot, app.logs, "log")
            await pilot.press("tab", "enter")
            await until(pilot, lambda: isinstance(app.screen, DetailScreen))
            await pilot.press(LOG_OF_DETAIL)
            await until(pilot, lambda: len(waiting(app.logs)) == 2)
        await seen(pilot, "its first line")
        await pilot.press("escape")
        say(workspace, run, "its second line")
        await seen(pilot, "good", "its second line")


@driven
async def test_the_log_beside_the_table_is_not_read_behind_another_screen(
    workspace: Workspace, run: str
) -> None:
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good")
        await pilot.press(LOG_OF_MAIN)
        await seen(pilot, "its first line")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await answered(pilot, app.logs)
        say(workspace, run, "its second line")
        await pilot.press(LOG_OF_DETAIL)
        await seen(pilot, "its second line")  # a reading later than the line
        behind = app._main.query_one(LogPane)
        assert "first" in str(behind._reading.looked) and "second" not in str(
            behind._reading.looked
        )


@driven
async def test_what_was_confirmed_and_the_layout_outlive_the_end(
    workspace: Workspace, run: str
) -> None:
    app, done = Watched(workspace), []
    app.actions.perform = done.append  # type: ignore[method-assign,assignment]
    with held(app.reader) as read, held(app.background_actions) as act:
        let_go_at_its_end(app.reader, read)
        let_go_at_its_end(app.background_actions, act)
        async with app.run_test(size=(120, 36)) as pilot:
            await seen(pilot, "good")
            theme = app.theme
            app._main.perform(RELABEL)
            await pilot.press("T", "q")
    assert app.all_done
    assert load_layout(workspace).theme not in ("", theme)
    assert done == [RELABEL]


@driven
async def test_a_slow_start_keeps_no_question_waiting(workspace: Workspace, run: str) -> None:
    async with monitor(workspace) as (app, pilot):
        app.actions.perform = repr  # type: ignore[method-assign]
        await seen(pilot, "good")
        with held(app.background_starts):
            app._main.perform(Clone(SEEN))
            await asked(pilot, app.background_starts, "perform")
            await pilot.press("D")
            await seen(pilot, "Delete good")
            await pilot.press("escape")


@driven
async def test_what_is_not_done_in_time_is_known(
    workspace: Workspace, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.tui.app._PATIENCE_S", 0.01)
    app = Watched(workspace)
    with held(app.background_actions):
        async with app.run_test(size=(120, 36)) as pilot:
            await seen(pilot, "good")
            app._main.perform(RELABEL)
    assert not app.all_done
