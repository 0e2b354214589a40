"""The first screen: what it shows, what keys do, and what it says when something is wrong."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from orchestra.registry.rows import NewRun
from orchestra.registry.store import SCHEMA_VERSION, open_registry
from orchestra.tui.compare import CompareScreen
from orchestra.tui.detail_screen import DetailScreen
from orchestra.tui.fields import Field
from orchestra.tui.memory import Layout, load_layout, save_layout
from orchestra.tui.panes.log import LogPane
from orchestra.tui.tabs import Tabs
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.tui.demo import demo
from tests.tui.monitor import add_runs, monitor
from tests.tui.showing import driven, seen, until

NARROW, WIDE = (80, 24), (120, 36)


def lines_with(text: str, word: str) -> list[str]:
    """Of the table."""
    return [line for line in text.splitlines() if word in line[:70]]


@driven
async def test_states_are_glyph_and_word_and_reason(workspace: Workspace) -> None:
    add_runs(workspace, ["good"])
    add_runs(workspace, ["bad"], RunState.FAILED, "rank 1 was killed by SIGKILL")
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "✗ failed", "✓ completed", "live", "✗ 1 failed", "✓ 1 completed")
        # the newest is under the cursor: why it died stands below the table
        await seen(pilot, "rank 1 was killed by SIGKILL")
        await pilot.press("down")
        await until(pilot, lambda: "SIGKILL" not in "\n".join(app.text.splitlines()[-4:]))


@pytest.mark.parametrize("size", [NARROW, WIDE, (200, 60)])
@driven
async def test_every_size_shows_the_rows(workspace: Workspace, size: tuple[int, int]) -> None:
    add_runs(workspace, ["one", "two"])
    async with monitor(workspace, size) as (app, pilot):
        text = await seen(pilot, "one", "two", "completed")
        assert max(map(len, text.splitlines())) <= size[0]
        if size == NARROW:  # one pane at a time
            assert "Attempts" not in text
            await pilot.press("1")
            await until(pilot, lambda: "State" not in app.text)
            await pilot.press("escape")
            await seen(pilot, "State", "two")


@driven
async def test_the_cursor_stays_on_its_run(workspace: Workspace) -> None:
    add_runs(workspace, [f"old-{number}" for number in range(5)])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "old-4")
        await pilot.press("down", "down")
        add_runs(workspace, ["newer"])
        await seen(pilot, "newer")
        assert [view.row.name for view in app._main.chosen()] == ["old-2"]


@driven
async def test_filter_live_kept_and_undone(workspace: Workspace) -> None:
    add_runs(workspace, ["good"])
    add_runs(workspace, ["bad"], RunState.FAILED)
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "good", "bad")
        await pilot.press("slash", *"state:failed")
        await until(pilot, lambda: not lines_with(app.text, "good"))
        await pilot.press("escape")
        await seen(pilot, "good", "bad")
        await pilot.press("slash", *"name:good", "enter")
        await until(pilot, lambda: not lines_with(app.text, "bad"))
    assert load_layout(workspace).query == "name:good"
    async with monitor(workspace) as (app, pilot):  # remembered, and to be seen
        await seen(pilot, "good", "/ name:good")
        assert not lines_with(app.text, "bad")
        await pilot.press("escape")
        await seen(pilot, "bad")


@driven
async def test_a_filter_that_cannot_be_read_is_explained_and_changes_nothing(
    workspace: Workspace,
) -> None:
    add_runs(workspace, ["good"])
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "good")
        await pilot.press("slash", *"stat:x")
        await seen(pilot, "did you mean state?")
        await pilot.press("escape")
        await seen(pilot, "✓ completed  good")


@driven
async def test_nothing_matches_is_a_sentence(workspace: Workspace) -> None:
    add_runs(workspace, ["good"])
    save_layout(workspace, Layout(query="nowhere"))
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "no run matches nowhere: Esc")


@driven
async def test_order_by_column_and_backwards(workspace: Workspace) -> None:
    add_runs(workspace, ["a", "c", "b"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "completed")

        def names() -> list[str]:
            return [view.row.name for view in app._main.shown]

        await until(pilot, lambda: names() == ["b", "c", "a"])  # newest first
        await pilot.press("o", "o")
        await until(pilot, lambda: names() == ["a", "b", "c"])
        assert "Name↑" in app.text or "Name ↑" in app.text
        await pilot.press("O")
        await until(pilot, lambda: names() == ["c", "b", "a"])


@driven
async def test_columns_are_chosen_and_remembered(workspace: Workspace) -> None:
    add_runs(workspace, ["a"])
    async with monitor(workspace, NARROW) as (app, pilot):
        await seen(pilot, "Step")
        await pilot.press("W", "down", "down", "down", "down", "space", "escape")
        await until(pilot, lambda: "Columns" not in app.text and "Step" not in app.text)
        await seen(pilot, "Loss")
    assert "step" not in load_layout(workspace).columns


@driven
async def test_marks_pins_and_their_undoing(workspace: Workspace) -> None:
    add_runs(workspace, [f"run-{number}" for number in range(9)])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "run-8")
        await pilot.press("space", "space", "p")
        await until(pilot, lambda: len(app._main.chosen()) == 2)
        assert lines_with(app.text, "run-8")[0].startswith("*")
        assert lines_with(app.text, "run-6")[0].startswith(" P")
        await pilot.press("escape")
        await until(pilot, lambda: [v.row.name for v in app._main.chosen()] == ["run-6"])
        await pilot.press("asterisk")
        await until(pilot, lambda: len(app._main.chosen()) == 9)


@driven
async def test_marks_and_pins_outlive_a_filter(workspace: Workspace) -> None:
    ids = add_runs(workspace, ["one", "two", "three"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "three")
        await pilot.press("p", "space", "space")  # three is pinned; it and two are marked
        await pilot.press("slash", *"name:two", "enter")
        await until(pilot, lambda: [v.row.name for v in app._main.shown] == ["two"])
        assert [view.row.name for view in app._main.chosen()] == ["two"]
        assert [view.row.name for view in app._main._focus.pinned] == ["three"]
        with open_registry(workspace.runs) as registry:
            registry.relabel(ids[2], name="third", tags=(), remark="")
        await until(pilot, lambda: [v.row.name for v in app._main._focus.pinned] == ["third"])
        await pilot.press("space", "escape")  # two is no longer marked
        await until(pilot, lambda: [v.row.name for v in app._main.chosen()] == ["third"])


@driven
async def test_the_header_counts_all_runs_whatever_the_filter(workspace: Workspace) -> None:
    add_runs(workspace, ["waiting"], RunState.STARTING)
    add_runs(workspace, ["good"])
    add_runs(workspace, ["bad"], RunState.FAILED)
    with open_registry(workspace.runs) as registry:
        registry.create_run(NewRun("q", "queue", "asr", "wavlm", 2e9, 10, "0"))
    async with monitor(workspace) as (app, pilot):
        await pilot.press("slash", *"state:failed", "enter")
        await until(pilot, lambda: [v.row.name for v in app._main.shown] == ["bad"])
        await seen(pilot, "1 queued", "1 failed", "1 completed")


@driven
async def test_enter_shows_all_about_a_run_and_escape_comes_back(workspace: Workspace) -> None:
    add_runs(workspace, ["one"], RunState.FAILED, "the disk is full")
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "one")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        await seen(pilot, "the disk is full", "Attempts")
        await pilot.press("escape")
        await seen(pilot, "State")


@driven
async def test_mouse(workspace: Workspace) -> None:
    add_runs(workspace, ["one", "two", "three"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "three")
        await pilot.click("#runs", offset=(20, 2))
        await until(pilot, lambda: [v.row.name for v in app._main.chosen()] == ["two"])
        await pilot.click("#runs", offset=(3, 0))  # the head of the states
        await seen(pilot, "State↑")
        await pilot.click("#runs", offset=(20, 2), times=2)
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))


@driven
async def test_read_only_is_said_and_its_keys_are_dead(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    async with monitor(workspace, readonly=True) as (app, pilot):
        await seen(pilot, "one", "READ-ONLY")
        await pilot.press("s", "D", "n", "R")
        await seen(pilot, "read-only: use the command line")
        assert app.screen is app._main


@driven
async def test_no_runs_yet_names_the_command(workspace: Workspace) -> None:
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "No runs yet", "orchestra run TASK")
        await pilot.press("enter", "space", "s", "c")
    assert not workspace.runs.registry.exists()  # looking makes nothing


@driven
async def test_a_newer_registry_is_a_sentence(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    with closing(sqlite3.connect(workspace.runs.registry)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "written by a newer orchestra", "upgrade orchestra")


@driven
async def test_a_damaged_registry_is_a_sentence_and_mending_it_is_seen(
    workspace: Workspace, tmp_path: Path
) -> None:
    add_runs(workspace, ["one"])
    good = workspace.runs.registry.read_bytes()
    for name in ("registry.db-wal", "registry.db-shm"):
        (workspace.runs.path / name).unlink(missing_ok=True)
    workspace.runs.registry.write_bytes(b"no database" * 100)
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "is damaged", "move it away")
        mended = tmp_path / "mended"
        mended.write_bytes(good)
        mended.replace(workspace.runs.registry)
        await seen(pilot, "one", "live")


@driven
async def test_runs_that_vanish_are_not_called_none(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "one")
        away = workspace.runs.path.with_name("away")
        workspace.runs.path.rename(away)
        text = await seen(pilot, "the runs are gone")
        assert "No runs yet" not in text and lines_with(text, "one")
        away.rename(workspace.runs.path)
        await until(pilot, lambda: "the runs are gone" not in app.text)


@driven
async def test_while_the_registry_is_locked_the_last_view_stands(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    async with monitor(workspace) as (_, pilot):
        await seen(pilot, "one")
        with (
            open_registry(workspace.runs) as registry,
            closing(sqlite3.connect(workspace.runs.registry, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            await pilot.press("down", "up")
            await seen(pilot, "one")
            other.execute("ROLLBACK")
            assert registry.list_runs()


@driven
async def test_a_run_with_brackets_in_its_name_is_only_a_name(workspace: Workspace) -> None:
    add_runs(
        workspace, ["[/foo]", "[@click=app.quit]x[/]"], RunState.FAILED, "[bold]\x1b]52;c;\x07"
    )
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "[/foo]", "[@click=app.quit]x[/]")
        await pilot.click("#runs", offset=(20, 1))
        await pilot.press("enter")
        await seen(pilot, "[bold]", "\\x1b]52;c;\\x07")
        assert app.is_running


@driven
async def test_compare_wants_two_marked_runs(workspace: Workspace) -> None:
    add_runs(workspace, ["one", "two"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "two")
        await pilot.press("c")
        await seen(pilot, "mark two runs or more")
        await pilot.press("asterisk", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await seen(pilot, "A  two", "B  one")
        await pilot.press("escape")
        await seen(pilot, "State")


@driven
async def test_an_event_leads_to_its_log(workspace: Workspace) -> None:
    with demo(workspace.root / "demo", live=False) as shown:
        async with monitor(shown.workspace) as (app, pilot):
            await seen(pilot, "hubert-large-oom")
            app._main.go_to("q8wn")
            await pilot.press("4")
            await seen(pilot, "attempt 1 crashed")
            await pilot.press("end", "n", "enter")
            await seen(pilot, "attempt 1 of 1")
            assert app._main._tabs.pane.key == "log"


@driven
async def test_a_program_that_ends_opens_no_tab(workspace: Workspace) -> None:
    async with monitor(workspace) as (app, _):
        tabs = Tabs(app.make_panes())  # on no screen any more
        await tabs.reveal()
        assert not tabs.pane.is_attached


@pytest.mark.parametrize("readonly", [True, False])
@driven
async def test_read_only_asks_for_no_file_to_save_a_log_in(
    workspace: Workspace, readonly: bool
) -> None:
    """As in a browser: there the monitor is always read-only."""
    (run_id,) = add_runs(workspace, ["one"])
    log = workspace.runs.run(run_id).job.attempt(1).rank_log(0)
    log.parent.mkdir(parents=True)
    log.write_text("a line of the log\n")
    async with monitor(workspace, readonly=readonly) as (app, pilot):
        await seen(pilot, "one")
        await pilot.press("3")
        await seen(pilot, "a line of the log")
        await until(pilot, lambda: isinstance(app.focused, LogPane))
        await pilot.press("s")
        assert isinstance(app.focused, Field) is not readonly


@driven
async def test_what_a_start_says_of_its_fetching_is_shown(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    async with monitor(workspace) as (app, pilot):
        await seen(pilot, "one")
        said = "model.safetensors of lab/[b]big[/b]: 40.0 MB of 1.20 GB"
        thread = threading.Thread(target=app.actions._tell, args=(said,))
        thread.start()
        thread.join()
        await seen(pilot, "lab/[b]big[/b]: 40.0 MB")
