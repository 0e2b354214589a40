"""What is drawn before Textual is loaded is what stands there afterwards."""

from __future__ import annotations

import time

import pyte
import pytest

from orchestra.tui.first_paint import first_screen
from orchestra.tui.memory import Layout
from orchestra.tui.watcher import FIRST_PAGE, Wanted, Watcher
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.tui.monitor import add_runs, monitor
from tests.tui.showing import driven, seen


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
@driven
async def test_the_rows_do_not_move(
    workspace: Workspace, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s)  # ages are not those of another minute
    add_runs(workspace, [f"asr-{number}" for number in range(100)], RunState.FAILED, "no disk")
    watcher = Watcher(workspace)
    found = watcher.look(Wanted(limit=FIRST_PAGE))
    watcher.close()
    screen = pyte.Screen(*size)
    pyte.Stream(screen).feed(first_screen(found, Layout(), *size, environment={}))
    async with monitor(workspace, size) as (app, pilot):
        await seen(pilot, "asr-99", "live")
        there = app.text.splitlines()
    drawn = [line.rstrip() for line in screen.display]
    assert "asr-99" in drawn[2]
    for line, now in zip(drawn[1:], there[1:], strict=True):
        if line:  # the scroll bar and the panes came later
            assert now.startswith(line.rstrip("↓"))


def test_no_colour_where_none_is_wanted(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    watcher = Watcher(workspace)
    found = watcher.look(Wanted())
    watcher.close()
    coloured = {"COLORTERM": "truecolor"}
    assert "\x1b[38;2;" in first_screen(found, Layout(), 80, 24, coloured)
    for environment in ({}, {**coloured, "NO_COLOR": "1"}):
        assert "\x1b[38" not in first_screen(found, Layout(), 80, 24, environment)
