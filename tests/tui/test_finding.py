"""Help, palette and copying: what is told is what there is, whatever a run is called."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from orchestra.schedule.board import RunView
from orchestra.tui import acting, dialog
from orchestra.tui.acting import Acting
from orchestra.tui.clipboard import copied_path, copy, sequences
from orchestra.tui.help import HelpScreen, matching, written
from orchestra.tui.keys import Key, collect, monitor_modules
from orchestra.tui.palette import palette
from orchestra.wire.terminal import clean
from tests.chaos.sandbox import Sandbox
from tests.tui.desk import Desk, until


class Searching(Desk):
    """Knows runs by name."""

    went: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def runs_like(self, query: str) -> Sequence[RunView]:
        view = self.runs.chosen()[0]
        return [replace(view, row=replace(view.row, name=name)) for name in self.names]

    def go_to(self, run_id: str) -> None:
        self.went += (run_id,)


def prompts(desk: Desk) -> list[str]:
    """What an open palette offers."""
    return [str(item.prompt) for found in desk.screen.query(OptionList) for item in found.options]


def test_every_key_of_the_monitor_is_declared_once_and_does_something() -> None:
    keys = collect(monitor_modules())
    assert set(acting.KEYS) < set(keys) and set(dialog.KEYS) < set(keys)
    told = [(key.where, name) for key in keys for name in key.keys.split(",")]
    assert len(told) == len(set(told))
    assert all(key.help.endswith(".") for key in keys)
    for key in acting.KEYS:
        assert hasattr(Acting, f"action_{key.action}"), key


def test_help_shows_all_keys_by_place_and_is_searched(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=(80, 24)) as pilot:
            keys = collect(monitor_modules())
            await desk.push_screen(HelpScreen(keys, readonly=True))
            await pilot.pause()
            text = str(desk.screen.query_one("#found", Static).content)
            for key in keys:
                assert key.help.rstrip(".") in text and key.where.capitalize() in text
            assert "with a last save, or now. (read-only)" in text
            await pilot.press(*"dead runs")
            text = str(desk.screen.query_one("#found", Static).content)
            assert "Kill what dead runs left behind" in text and "Evaluate" not in text
            await pilot.press("escape")
            assert desk.screen is desk.runs

    asyncio.run(work())


def test_keys_are_written_as_on_the_keyboard() -> None:
    assert written(Key("slash", "x", "", "")) == "/"
    assert written(Key("up,k", "x", "", "")) == "↑ k"
    assert matching([Key("slash", "x", "", "Filter.")], "filter /") != []
    assert matching([Key("slash", "x", "", "Filter.")], "filter q") == []


@pytest.mark.parametrize("readonly", [True, False])
def test_the_palette_offers_what_is_valid_and_no_more(sandbox: Sandbox, readonly: bool) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Searching(sandbox.workspace, job.run.id, readonly=readonly)
        async with desk.run_test(size=(80, 24)) as pilot:
            desk.push_screen(palette())
            found = await until("commands", lambda: prompts(desk))
            assert any("folder" in line for line in found)
            assert any("Stop the run" in line for line in found) is not readonly
            await pilot.press(*"commands", "enter", "enter")
            await until("the log", lambda: "CommandsScreen" in repr(desk.screen))

    asyncio.run(work())


def test_the_palette_can_be_left_before_it_is_there(sandbox: Sandbox) -> None:
    async def work() -> None:
        desk = Searching(sandbox.workspace)
        async with desk.run_test(size=(80, 24)) as pilot:
            opened = palette()
            desk.push_screen(opened)
            desk.pop_screen()
            await until("its end", lambda: not opened.is_attached)
            await pilot.pause()
            assert desk.is_running and desk.screen is desk.runs

    asyncio.run(work())


@pytest.mark.parametrize(
    "name", ["asr-wavlm", "[/foo]", "[@click=app.quit]x[/]", "a\x1b]52;c;eA==\x07b"]
)
def test_the_palette_goes_to_a_run_whatever_it_is_called(sandbox: Sandbox, name: str) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Searching(sandbox.workspace, job.run.id)
        desk.names = (name,)
        async with desk.run_test(size=(80, 24)) as pilot:
            desk.push_screen(palette())
            await until("commands", lambda: prompts(desk))
            desk.screen.query_one(Input).value = job.run.id
            (found,) = await until(
                "it", lambda: job.run.id in "".join(prompts(desk)) and prompts(desk)
            )
            assert found.startswith(f"run {clean(name)} (")  # to be read, and nothing else
            await pilot.press("enter", "enter")
            await until("the jump", lambda: desk.went)
            assert desk.went == (job.run.id,)

    asyncio.run(work())


def test_a_copy_goes_to_the_terminal_and_surely_into_a_file(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TMUX", raising=False)

    async def work() -> None:
        desk = Desk(sandbox.workspace)
        async with desk.run_test():
            told = copy(desk, "orchestra stop x")
            assert "may have copied" in told and str(copied_path()) in told
            assert desk.clipboard == "orchestra stop x"
            assert "too long" in copy(desk, "x" * 100_000)
            assert copied_path().read_text() == "x" * 100_000
            assert copied_path().stat().st_mode & 0o777 == 0o600
            copied_path().unlink()
            copied_path().mkdir()
            assert "not written to a file: Is a directory" in copy(desk, "x")

    asyncio.run(work())


def test_inside_tmux_the_sequence_is_wrapped_as_well() -> None:
    plain, wrapped = sequences("hä", tmux=True)
    assert plain == f"\x1b]52;c;{base64.b64encode('hä'.encode()).decode()}\x07"
    assert wrapped == "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    assert sequences("x", tmux=False) == [sequences("x", tmux=True)[0]]
