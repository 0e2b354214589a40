"""An error of the monitor's own: a sentence, the traceback in a file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator

import pytest
from textual.widgets import Input

from orchestra.tui.app import Monitor
from orchestra.tui.failure import MonitorError, log_path, log_to_file
from orchestra.tui.panes.log import LogPane
from orchestra.tui.web import served
from orchestra.workspace import Workspace
from tests.tui.monitor import add_runs, monitor
from tests.tui.showing import driven, seen


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    logging.captureWarnings(capture=False)
    for handler in logging.getLogger().handlers:
        if handler not in before:
            handler.close()
    logging.getLogger().handlers[:] = before


@driven
async def test_a_bug_ends_the_monitor_with_a_sentence(
    workspace: Workspace, logging_as_before: None
) -> None:
    log_to_file()
    add_runs(workspace, ["one"])
    with pytest.raises(MonitorError) as caught:
        async with monitor(workspace) as (app, pilot):
            await seen(pilot, "one")
            app.reader.ask("bug", lambda: 1 // 0, print, print)
            while app.is_running:
                await pilot.pause(0.01)
    sentence = caught.value.__rich__().plain
    assert "ZeroDivisionError" in sentence and str(log_path()) in sentence
    assert "Traceback" not in sentence
    assert "1 // 0" in log_path().read_text()


def test_warnings_and_logs_go_to_the_file(
    logging_as_before: None, capfd: pytest.CaptureFixture[str]
) -> None:
    log_to_file()
    warnings.warn("a library warns", UserWarning, stacklevel=1)
    logging.getLogger("some.library").error("a library logs")
    text = log_path().read_text()
    assert "a library warns" in text and "a library logs" in text
    assert capfd.readouterr() == ("", "")


def test_what_a_browser_shows_is_read_only_and_logs_to_the_file(
    workspace: Workspace, logging_as_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Monitor] = []
    monkeypatch.setattr(Monitor, "run", lambda self: shown.append(self))
    folders = [os.fspath(workspace.root), os.fspath(workspace.runs.path)]
    monkeypatch.setattr(sys, "argv", ["served", *folders])
    served.main()
    logging.getLogger("some.library").error("a library logs")
    assert "a library logs" in log_path().read_text()
    assert [monitor.readonly for monitor in shown] == [True]


@driven
async def test_read_only_no_log_is_saved(workspace: Workspace) -> None:
    (run,) = add_runs(workspace, ["one"])
    attempt = workspace.runs.run(run).job.attempt(1)
    attempt.logs.mkdir(parents=True)
    attempt.rank_log(0).write_text("its only line\n")
    for readonly in (False, True):
        async with monitor(workspace, readonly=readonly) as (app, pilot):
            await seen(pilot, "one")
            await pilot.press("3")
            await seen(pilot, "its only line")
            await pilot.press("s")
            box = app._main.query_one(LogPane).query_one(Input)
            assert box.display is not readonly
