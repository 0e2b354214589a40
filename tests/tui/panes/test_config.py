from __future__ import annotations

import pytest
import tomli_w
from textual.content import Content

from orchestra.registry.rows import RunRow
from orchestra.tui.panes.config import ConfigPane
from orchestra.wire.files import write_json
from tests.chaos.sandbox import Sandbox
from tests.schedule.conftest import sandbox
from tests.tui.showing import Shown, driven, focus_on, seen, showing, until

__all__ = ["sandbox"]

CONFIG = {
    "seed": 7,
    "optim": {"lr": 0.001, "kind": "adamw"},
    "data": {"test": ["dev", "[/foo]"], "root": "/x\x1b]0;t\x07"},
}
ORIGINS = {"seed": "drawn", "optim.lr": "--set optim.lr=1e-3", "optim.kind": "default"}


@pytest.fixture
def run(sandbox: Sandbox) -> Sandbox:
    job = sandbox.add_run(run_id="one")
    job.config.write_text(tomli_w.dumps(CONFIG))
    write_json(job.origins, ORIGINS)
    return sandbox


def row(run: Sandbox) -> RunRow:
    with run.registry() as registry:
        return registry.get_run("one")


@driven
async def test_keys_with_values_and_origins(run: Sandbox) -> None:
    async with showing(lambda reader: ConfigPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        text = await seen(pilot, "optim.lr", "0.001", "--set optim.lr=1e-3", "drawn")
        assert '["dev", "[/foo]"]' in text and "\x1b" not in text


@driven
async def test_find_narrows_while_one_types_and_escape_clears(run: Sandbox) -> None:
    async with showing(lambda reader: ConfigPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "optim.lr")
        app.shown.focus()
        await pilot.press("slash", *"LR")
        await until(pilot, lambda: "data.root" not in app.text)
        assert "optim.lr" in app.text
        await pilot.press(*"zz")
        await seen(pilot, "no key has 'LRzz': Esc shows all")
        await pilot.press("escape")
        await seen(pilot, "data.root", "optim.lr")
        assert app.focused is app.shown.lines


@driven
async def test_defaults_can_be_left_out(run: Sandbox) -> None:
    async with showing(lambda reader: ConfigPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "optim.kind")
        app.shown.focus()
        await pilot.press("d")
        await until(pilot, lambda: "optim.kind" not in app.text)
        assert "optim.lr" in app.text


@driven
async def test_what_is_not_there_is_a_sentence(run: Sandbox) -> None:
    async with showing(lambda reader: ConfigPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(None))
        await seen(pilot, "no run is chosen")
        run.jobs[0].config.write_text("= [/foo]")
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "is not a frozen config")
        run.jobs[0].config.unlink()
        app.shown.again()
        await seen(pilot, "No such file")
        assert all(isinstance(line, Content) for line in app.shown.lines.lines)


@driven
async def test_escape_is_not_taken_where_there_is_nothing_to_clear(run: Sandbox) -> None:
    class Listening(Shown):
        BINDINGS = (("escape", "leave", "Leave"),)

        def action_leave(self) -> None:
            self.messages.append("left")

    made = showing(lambda reader: ConfigPane(run.workspace, reader), app=Listening)
    async with made as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "optim.kind")
        app.shown.focus()
        await pilot.press("d", "escape")
        await seen(pilot, "optim.kind")
        assert app.messages == []
        await pilot.press("escape")
        await until(pilot, lambda: app.messages == ["left"])
