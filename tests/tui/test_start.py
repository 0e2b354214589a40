"""From the command line to the running monitor: the terminal is given back at every moment."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from orchestra.tui import start
from orchestra.tui.watcher import Watcher
from orchestra.workspace import Workspace
from tests.tui.monitor import add_runs
from tests.tui.terminal import Terminal

ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import functools, os, signal, sys
from orchestra.tui import app, main_screen
owner, name = {place}
whole = getattr(owner, name)

@functools.wraps(whole)
def interrupted(*words, **more):
    os.kill(os.getpid(), signal.SIGINT)
    return whole(*words, **more)

setattr(owner, name, interrupted)
from orchestra.cli.main import main
sys.argv = ["orchestra", "tui"]
main()
"""
PLACES = {
    "made": "app.Monitor, '__init__'",
    "run": "app.Monitor, 'run'",
    "loaded": "app.Monitor, 'on_load'",
    "laid out": "app.Monitor, 'make_panes'",
    "mounted": "main_screen.MainScreen, 'on_mount'",
}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_while_it_starts_gives_the_terminal_back(workspace: Workspace, place: str) -> None:
    add_runs(workspace, ["asr"])
    program = INTERRUPTED.format(place=PLACES[place])
    environment = {"PYTHONPATH": os.fspath(ROOT)}
    argv = [sys.executable, "-c", program]
    with Terminal(argv, environment=environment, cwd=workspace.root) as terminal:
        assert terminal.exit_code() == 130, terminal.sent[-1500:]
        sent = terminal.sent
        assert b"\x1b[?1049h" in sent, "it drew nothing"
        for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
            assert sent.rindex(off) > sent.rindex(on)
        assert b"Traceback" not in sent


def test_rows_that_are_long_in_coming_hold_up_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = threading.Event()
    look = Watcher.look

    def slow(self: Watcher, wanted: object) -> object:
        unlocked.wait(60)
        return look(self, wanted)  # type: ignore[arg-type]

    assert start._first_rows(workspace) is not None
    monkeypatch.setattr(Watcher, "look", slow)
    monkeypatch.setattr(start, "FIRST_ROWS_WITHIN_S", 0.01)
    assert start._first_rows(workspace) is None
    unlocked.set()
