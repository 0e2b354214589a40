"""The compare screen shows what `orchestra diff` tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from textual import events

from orchestra.tui.background import Background
from orchestra.tui.compare import CompareScreen
from tests.chaos.sandbox import Sandbox
from tests.schedule.comparing import Bench
from tests.schedule.conftest import sandbox
from tests.tui.showing import driven, seen, showing, until, view

__all__ = ["sandbox"]


@pytest.fixture
def bench(sandbox: Sandbox) -> Bench:
    bench = Bench(sandbox)
    bench.commit("first", model="one\n")
    bench.evaluate(bench.add("base"), "test", wer=6.0)
    bench.commit("[/foo] of \x1b]52;c;eA==\x07", model="two\n")
    job = bench.add("tuned", seed=8, notes={"[@click=app.bell]": "[/foo]"})
    bench.evaluate(job, "test", wer=5.0)
    bench.curve(job, loss=0.5)
    return bench


def comparing(bench: Bench, *ids: str) -> Callable[[Background], CompareScreen]:
    with bench.sandbox.registry() as registry:
        known = registry.get_run("base")
        rows = {row.id: row for row in registry.list_runs()}
    views = tuple(view(rows.get(run_id, replace(known, id=run_id))) for run_id in ids)
    return lambda reader: CompareScreen(bench.sandbox.workspace, reader, views)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
@driven
async def test_each_section(bench: Bench, size: tuple[int, int]) -> None:
    async with showing(comparing(bench, "base", "tuned"), size) as (_, pilot):
        text = await seen(pilot, "A  base", "B  tuned", "seed", "notes.[@click=app.bell]")
        assert "optim.lr" not in text, "only keys that differ"
        await pilot.press("2")
        text = await seen(pilot, "model.py  +1 -1", "1 commit(s) that only tuned has:")
        assert "[/foo] of \\x1b]52;c;eA==\\x07" in text
        await pilot.press("p")
        await seen(pilot, "-one", "+two")
        await pilot.press("4")
        text = await seen(pilot, "5*", "train/loss")
        assert "6*" not in text and "\x1b" not in text
        await pilot.press("3")
        await seen(pilot, "no difference")


@driven
async def test_escape_goes_back(bench: Bench) -> None:
    async with showing(comparing(bench, "base", "tuned")) as (app, pilot):
        await seen(pilot, "seed")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CompareScreen))


@driven
async def test_curves_of_all(bench: Bench) -> None:
    async with showing(comparing(bench, "base", "tuned")) as (_, pilot):
        await pilot.press("5")
        await seen(pilot, "train/loss", "tuned 0.5")


@driven
async def test_damage_is_a_sentence(bench: Bench) -> None:
    bench.sandbox.workspace.runs.run("tuned").job.config.write_text("= [/foo]")
    async with showing(comparing(bench, "base", "tuned")) as (_, pilot):
        await seen(pilot, "tuned: Invalid statement", "seed")


@driven
async def test_a_run_that_is_gone_is_a_sentence(bench: Bench) -> None:
    async with showing(comparing(bench, "base", "gone")) as (_, pilot):
        await seen(pilot, "no run 'gone' in the registry")


@driven
async def test_it_scrolls_by_keys_and_wheel(bench: Bench) -> None:
    more = {f"key{number:03d}": number for number in range(100)}
    bench.configure(bench.sandbox.jobs[0], **more)
    async with showing(comparing(bench, "base", "tuned")) as (app, pilot):
        await seen(pilot, "key000")
        assert "key099" not in app.text
        await pilot.press("end")
        await seen(pilot, "seed")
        await pilot.press("home")
        await seen(pilot, "key000")
        lines = app.screen.query_one("#config-lines")
        await pilot._post_mouse_events([events.MouseScrollDown], lines)
        await until(pilot, lambda: lines.scroll_offset.y > 0)
