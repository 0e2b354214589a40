"""No text from outside reaches the terminal as anything but text: on no screen, from no verb."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestra.workspace import Workspace, init_workspace
from tests.tui.hostile import HOSTILE, MARKER, OTHER, RUN, write_hostile_run
from tests.tui.terminal import Terminal, assert_no_private_strings

ROOT = Path(__file__).parents[2]
ORCHESTRA = (sys.executable, "-m", "orchestra")
LOG_APP = (sys.executable, "-m", "tests.tui.log_app")


@dataclass(frozen=True)
class Screen:
    """Keys that lead there from the start, and what is to be seen then."""

    name: str
    keys: tuple[str, ...]
    shows: str


LOG_SCREENS = (
    Screen("all ranks", (), "LASTLINE"),
    Screen("one rank", ("]",), "rank0"),
    Screen("the beginning", ("]", "home"), "START"),
    Screen("wrapped", ("]", "w", "home"), "START"),
    Screen("sideways", ("]", "right", "right"), "rank0"),
    Screen("supervisor", ("[",), "supervisor"),
    Screen("found", ("/", *"END", "enter"), "END"),
    Screen("filtered", ("&", *"LAST", "enter"), "LASTLINE"),
    Screen("asked to save", ("s",), "attempt1-all.log"),
    Screen(
        "saved to a hostile name", ("s", "end", "/", "[", "/", "b", "]", "enter"), "cannot write"
    ),
)
#: One after the other in one program, with what is to be seen then. The hostile run is the older.
MONITOR_SCREENS = (
    Screen("curves", ("down", "2"), "train/loss"),
    Screen("any metric", ("g",), "METRIC"),
    Screen("log", ("3",), "LASTLINE"),
    Screen("summary", ("1",), "SENTENCE"),
    Screen("events", ("4",), "REASON"),
    Screen("config", ("5",), "launch.device"),
    Screen("checkpoints", ("6",), "cannot read"),
    Screen("evaluations", ("7",), "split"),
    Screen("GPUs", ("8",), "memory"),
    Screen("table alone", ("escape", "tab", "e"), "NAME"),
    Screen("filtered", ("/", *HOSTILE[-30:-20], "escape", "e"), "NAME"),
    Screen("details", ("enter",), "REASON"),
    Screen("code", ("8",), "Not committed"),
    Screen("label", ("escape", "L"), "as they are"),
    Screen("clone", ("escape", "C"), "clone"),
    Screen("delete", ("escape", "D"), "orchestra rm"),
    Screen("help", ("escape", "?"), "search keys"),
    Screen("palette", ("escape", ":", *"NAME"), "NAME"),
    Screen("compare", ("escape", "escape", "*", "c"), "OTHER"),
    Screen("compared code", ("2",), "OTHER"),
    Screen("compared curves", ("5",), "train/loss"),
    Screen("all again", ("escape",), "State"),
)
#: Keys that lead to a field (or not: 0), Escape leads back. Dialogs are made of the same fields:
#: test_fields.py sees to that.
FIELDS = (
    (Screen("filter", ("/",), "state:failed"), 1),
    (Screen("metrics", ("down", "2", "/"), "part of a metric"), 1),
    (Screen("log", ("3",), "LASTLINE"), 0),
    (Screen("search", ("/",), "all ranks"), 1),
    (Screen("config", ("5",), "launch.device"), 0),
    (Screen("keys", ("/",), "a part of a key"), 1),
    (Screen("help", ("?",), "search keys"), 1),
    (Screen("palette", (":",), "a command"), 1),
)
VERBS = (
    ("ls",),
    ("show", RUN),
    ("logs", RUN),
    ("logs", RUN, "--merge"),
    ("logs", RUN, "--rank", "0", "--grep", "start"),
    ("logs", RUN, "--rank", f"0{HOSTILE[:40]}"),
    ("ls", "--columns", "name,tags,note,cfg.launch.device", f"has:note{HOSTILE[-7:]}"),
    ("diff", RUN, OTHER),
    ("events", RUN),
    ("metrics", RUN),
    ("metrics", RUN, "--csv"),
    ("clone", RUN, "--dry-run"),
    ("clone", RUN, "--set", f"seed={HOSTILE[:60]}".replace("\x00", ""), "--dry-run"),
    ("gpus",),
    ("label", RUN, "--note", HOSTILE[:60].replace("\x00", "")),
    ("config", "show", RUN, "--origins"),
    ("queue",),
    ("checkpoints", RUN),
    ("show", "no\x1b]52;c;PWNED\x07\u202esuch"),
    ("ls", "--state", "\x1b[2J\u202e"),
    ("lss\x1b]0;PWNED\x07\u2028",),
    ("wait", RUN),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = init_workspace(tmp_path / "w")
    write_hostile_run(made)
    yield made


@pytest.mark.slow
def test_a_paste_into_every_line_to_type_in(workspace: Workspace) -> None:
    pasted = HOSTILE.replace("\x00", "").encode(errors="replace").decode()
    pasted = pasted.replace("\u2028\u2029", " PASTED")
    with started((*ORCHESTRA, "tui"), workspace) as terminal:
        terminal.wait_for("NAME")
        terminal.wait_for("space mark")  # what is drawn first takes no keys
        for screen, count in FIELDS:
            for key in screen.keys:
                terminal.press(key)
                terminal.settle()
            terminal.wait_for(screen.shows)
            for place in range(count):
                if place:
                    terminal.press("tab")
                terminal.paste(pasted)
                terminal.settle()
            if count:
                terminal.wait_for("PASTED")
                terminal.press("escape")
            terminal.settle()
            assert "Traceback" not in terminal.text, screen.name
            assert_no_private_strings(terminal.sent)
        terminal.press("ctrl+q")
        assert terminal.exit_code() == 0


def drive(argv: tuple[str, ...], ready: str, workspace: Workspace, screen: Screen) -> None:
    """Go there, click and scroll about: nothing harmful is ever sent, and the program lives on
    until it is asked to leave."""
    with started(argv, workspace) as terminal:
        terminal.wait_for(ready)
        terminal.press(*screen.keys)
        terminal.wait_for(screen.shows)
        for row in range(2, 28, 5):
            terminal.click(20, row)  # a click action in the text would quit, or raise
        terminal.wheel(20, 8, up=True)
        terminal.settle()
        terminal.press("ctrl+q")
        assert terminal.exit_code() == 0
        assert "Traceback" not in terminal.text
        assert_no_private_strings(terminal.sent)


def started(argv: tuple[str, ...], workspace: Workspace) -> Terminal:
    environment = {"PYTHONPATH": os.fspath(ROOT), "TEXTUAL_ANIMATIONS": "none"}
    return Terminal(argv, size=(100, 30), environment=environment, cwd=workspace.root)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("screen", LOG_SCREENS, ids=lambda screen: screen.name)
def test_the_log_pane(workspace: Workspace, screen: Screen) -> None:
    drive(LOG_APP, "LASTLINE", workspace, screen)


@pytest.mark.slow
def test_every_screen_of_the_monitor(workspace: Workspace) -> None:
    with started((*ORCHESTRA, "tui"), workspace) as terminal:
        terminal.wait_for("NAME")
        terminal.wait_for("live")
        for screen in MONITOR_SCREENS:
            for key in screen.keys:
                terminal.press(key)
                terminal.settle()
            terminal.wait_for(screen.shows)
            for row in range(2, 28, 9):
                terminal.wheel(20, row, up=True)
            terminal.settle()
            assert "Traceback" not in terminal.text, screen.name
        terminal.press("q")
        assert terminal.exit_code() == 0
        assert_no_private_strings(terminal.sent)


@pytest.mark.slow
@pytest.mark.parametrize("words", VERBS, ids=lambda words: repr(" ".join(words))[:40])
def test_verbs_on_a_terminal(workspace: Workspace, words: tuple[str, ...]) -> None:
    with started((*ORCHESTRA, *words), workspace) as terminal:
        terminal.exit_code()
        assert b"Traceback" not in terminal.sent and len(terminal.sent) > 10
        assert_no_private_strings(terminal.sent)


def test_control_the_raw_log_is_what_would_hurt(workspace: Workspace) -> None:
    with started((*ORCHESTRA, "logs", RUN, "--rank", "0", "--raw"), workspace) as terminal:
        assert terminal.exit_code() == 0
        assert f"\x1b]52;c;{MARKER}".encode() in terminal.sent
        with pytest.raises(AssertionError, match="it sent"):
            assert_no_private_strings(terminal.sent)


def test_colours_of_a_log_are_kept_unless_nobody_wants_them(workspace: Workspace) -> None:
    words = (*ORCHESTRA, "logs", RUN, "--rank", "0")
    with started(words, workspace) as terminal:
        terminal.exit_code()
        assert b"\x1b[32m" in terminal.sent
    with Terminal(
        words, environment={"PYTHONPATH": os.fspath(ROOT), "NO_COLOR": "1"}, cwd=workspace.root
    ) as terminal:
        terminal.exit_code()
        assert b"\x1b[" not in terminal.sent and b"LASTLINE" in terminal.sent
