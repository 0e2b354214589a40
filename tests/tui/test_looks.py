"""Signs of states, and what a font without them is given."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

import orchestra.tui
from orchestra.schedule.board import Doing
from orchestra.tui.detail_screen import DetailScreen
from orchestra.tui.first_paint import first_screen
from orchestra.tui.looks import LOOKS, doing_of, in_ascii, wants_ascii
from orchestra.tui.memory import Layout
from orchestra.tui.watcher import Wanted, Watcher
from orchestra.wire.states import AttemptState, RunState
from orchestra.workspace import Workspace
from tests.tui.demo import demo
from tests.tui.monitor import Watched, add_runs, monitor
from tests.tui.showing import driven, seen, until

FONTS = "canvas.py"  # curves have characters of their own for each font
CONSOLE = {"TERM": "linux"}


def test_states_differ_in_either_font() -> None:
    assert len({look.glyph for look in LOOKS.values()}) == len(LOOKS) == len(Doing)
    assert len({look.ascii for look in LOOKS.values()}) == len(LOOKS)


def test_every_state_of_runs_and_attempts_has_a_look() -> None:
    assert {doing_of(state) for state in (*RunState, *AttemptState)} <= LOOKS.keys()


def test_every_sign_in_the_source_has_one_in_ascii() -> None:
    folder = Path(orchestra.tui.__file__).parent
    for path in folder.rglob("*.py"):
        if path.name == FONTS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = in_ascii(node.value)
                assert text.isascii() and cell_len(text) == cell_len(node.value), (
                    f"{path}: {node.value!r}"
                )


@pytest.mark.parametrize("name", ["Überlänge", "漢字", "наука"])
def test_the_letters_of_others_stay(name: str) -> None:
    assert in_ascii(f"✓ {name}…") == f"+ {name}~"


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({}, False),
        (CONSOLE, True),
        (CONSOLE | {"ORCHESTRA_GLYPHS": "braille"}, False),
        ({"ORCHESTRA_GLYPHS": "ascii"}, True),
    ],
)
def test_the_font_that_is_trusted(environment: dict[str, str], ascii_only: bool) -> None:
    assert wants_ascii(environment) is ascii_only


def beyond_ascii(app: Watched) -> list[str]:
    return [line for line in app.text.splitlines() if not line.isascii()]


async def every_tab(pilot: Pilot[None], app: Watched, count: int) -> None:
    for place in range(1, count + 1):
        await pilot.press(str(place))
        await until(pilot, lambda: "reading" not in app.text)
        assert not beyond_ascii(app), f"tab {place} of {app.screen}"


@pytest.mark.parametrize("console", [True, False])
@driven
async def test_a_console_gets_ascii_on_every_tab(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, console: bool
) -> None:
    if console:
        monkeypatch.setenv("TERM", "linux")
    with demo(workspace.root / "demo") as shown:
        async with monitor(shown.workspace, (120, 30)) as (app, pilot):
            await seen(pilot, "fbank-baseline", "live")
            if not console:
                assert beyond_ascii(app)
                return
            app._main.go_to("t6ze")
            await every_tab(pilot, app, len(app.make_panes()))
            app._main._table.focus()
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, DetailScreen))
            await every_tab(pilot, app, len(app.make_panes(detail=True)))
            await pilot.press("escape")
            for key in ("question_mark", "colon", "n", "W"):
                before = app.screen
                await pilot.press(key)
                await until(pilot, lambda before=before: app.screen is not before)
                assert not beyond_ascii(app), key
                await pilot.press("escape")
                await until(pilot, lambda before=before: app.screen is before)


def test_the_first_paint_of_a_console_is_ascii(workspace: Workspace) -> None:
    add_runs(workspace, ["one"])
    watcher = Watcher(workspace)
    found = watcher.look(Wanted())
    watcher.close()
    assert first_screen(found, Layout(), 80, 24, CONSOLE).isascii()
    assert not first_screen(found, Layout(), 80, 24, {}).isascii()
