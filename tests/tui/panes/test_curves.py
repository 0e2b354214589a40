"""The curves pane in an app of its own: what it shows when, and that it reads beside the screen."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from orchestra.registry.metrics import MetricStore
from orchestra.schedule.board import RunView
from orchestra.tui.background import Background
from orchestra.tui.pane import Focus
from orchestra.tui.panes.curves import CurvesPane
from orchestra.wire.records import Record
from orchestra.workspace import Workspace
from tests.tui.curve_data import BEGAN_S, run_view, workspace, write_run
from tests.tui.loop import driven


class Alone(App[None]):
    """The pane and nothing else."""

    def __init__(self, place: Workspace) -> None:
        super().__init__()
        self.place = place
        self.reader = Background("reader", self._deliver)

    def compose(self) -> ComposeResult:
        yield CurvesPane(self.place, self.reader)

    def on_mount(self) -> None:
        self.reader.start()

    def on_unmount(self) -> None:
        self.reader.stop()

    def _deliver(self, answer: Callable[[], None]) -> None:
        self.call_from_thread(answer)


class Seen:
    """The pane, and what is on the screen."""

    def __init__(self, app: Alone, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot
        self.pane = app.query_one(CurvesPane)

    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    async def until(self, holds: Callable[[str], bool]) -> str:
        for _ in range(400):
            await self.pilot.pause(0.02)
            if holds(text := self.text()):
                return text
        raise AssertionError(f"never seen; now:\n{self.text()}")

    async def show(self, *views: RunView) -> None:
        self.pane.show(Focus(views[0] if views else None, views[1:]))
        await self.pilot.pause()


@asynccontextmanager
async def opened(place: Workspace, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Seen]:
    app = Alone(place)
    async with app.run_test(size=size) as pilot:
        app.query_one(CurvesPane).focus()
        yield Seen(app, pilot)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = workspace(tmp_path)
    for seed, run_id in enumerate(("aaaa", "bbbb")):
        write_run(made, run_id, 400, seed).close()
    return made


@pytest.mark.parametrize("size", [(78, 20), (48, 31), (200, 56), (20, 4), (38, 6)])
@driven
async def test_loss_and_the_runs_metric_first(place: Workspace, size: tuple[int, int]) -> None:
    async with opened(place, size) as seen:
        await seen.show(run_view("aaaa"), run_view("bbbb"))
        text = await seen.until(lambda text: "train/loss" in text)
        if size[1] > 10:
            text = await seen.until(lambda text: "validation/dev-clean/wer" in text)
            assert "asr-aaaa" in text and "asr-bbbb" in text
            assert "│2" in text and "×" in text


@driven
async def test_the_states_without_a_curve_are_sentences(place: Workspace) -> None:
    async with opened(place) as seen:
        await seen.show()
        await seen.until(lambda text: "No run is chosen" in text)
        await seen.show(run_view("none"))
        await seen.until(lambda text: "No metrics yet of asr-none" in text)
        store = MetricStore(place.runs.run("none").metrics)
        place.runs.run("none").path.mkdir()
        store.append(1, [Record("train", 1, BEGAN_S, {"loss": 2.0})])
        seen.pane.tick()
        await seen.until(lambda text: "asr-none 2" in text)
        store.append(1, [Record("train", 2, BEGAN_S, {"loss": 1.5})])
        seen.pane.tick()
        await seen.until(lambda text: "asr-none 1.5" in text)
        store.close()


@driven
async def test_a_damaged_store_hides_no_other_run(place: Workspace) -> None:
    place.runs.run("aaaa").metrics.write_bytes(b"garbage" * 1000)
    async with opened(place, (150, 30)) as seen:
        await seen.show(run_view("aaaa", "[/foo]"), run_view("bbbb"))
        text = await seen.until(lambda text: "is damaged" in text)
        assert "[/foo]: " in text
        await seen.until(lambda text: "asr-bbbb" in text)


@driven
async def test_names_from_outside_are_only_text(place: Workspace) -> None:
    store = MetricStore(place.runs.run("aaaa").metrics)
    store.append(2, [Record("train", 401, BEGAN_S, {"[/x]\x1b[2J\x9b1m": 2.0})])
    store.close()
    async with opened(place, (110, 30)) as seen:
        await seen.show(run_view("aaaa", "[/foo]\x1b]52;c;eA==\x07[@click=app.quit]b"))
        text = await seen.until(lambda text: "[/foo]\\x1b]52" in text)
        await seen.pilot.press("slash", *"2J")
        text = await seen.until(lambda text: "[/x]\\x1b[2J" in text)
        assert not {"\x1b", "\x07", "\x9b"} & set(text)


@driven
async def test_metrics_are_walked_and_found(place: Workspace) -> None:
    async with opened(place) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        await seen.pilot.press("j", "j")
        await seen.until(lambda text: text.startswith("validation/dev-clean/wer"))
        await seen.pilot.press("k")
        await seen.until(lambda text: text.startswith("train/loss") and "wer" not in text)
        await seen.pilot.press("slash", *"NORM grad")
        await seen.until(lambda text: text.startswith("train/grad_norm") and "1 of 6" in text)
        await seen.pilot.press("escape")
        await seen.until(lambda text: text.startswith("train/loss"))
        await seen.pilot.press("slash", *"train", "down", "enter")
        await seen.until(lambda text: text.startswith("train/epoch"))
        assert not seen.app.query_one(Input).has_focus
        await seen.pilot.press("slash", *"nothing")
        await seen.until(lambda text: "no metric has that in its name" in text)


@driven
async def test_grid_and_reset(place: Workspace) -> None:
    async with opened(place, (160, 50)) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        await seen.pilot.press("g")
        await seen.until(lambda text: "train/grad_norm" in text and "train/lr" in text)
        await seen.pilot.press("0")
        await seen.until(lambda text: "train/grad_norm" not in text and "wer" in text)


@driven
async def test_the_grid_has_pages(place: Workspace) -> None:
    async with opened(place, (48, 24)) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        await seen.pilot.press("g", "j")
        text = await seen.until(lambda text: "train/grad_norm" in text)
        assert "train/loss" not in text
        await seen.pilot.press("k")
        await seen.until(lambda text: "train/loss" in text)


@driven
async def test_axes_scales_and_smoothing(place: Workspace) -> None:
    async with opened(place) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: text.rstrip().endswith("│2") and "step" in text)
        await seen.pilot.press("y", "o", "o")
        await seen.until(lambda text: "log y" in text and "smoothed 0.9" in text)
        for word in ("epoch", "time", "since start", "step"):
            await seen.pilot.press("x")
            await seen.until(lambda text, word=word: f" {word}" in text.splitlines()[-2])
        await seen.pilot.press("o", "o", "y")
        await seen.until(lambda text: "smoothed" not in text and "log y" not in text)


@driven
async def test_the_crosshair_by_keys_and_mouse(place: Workspace) -> None:
    async with opened(place) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        await seen.pilot.press("left")
        await seen.until(lambda text: "at step 400" in text)
        await seen.pilot.press("left", "left")
        await seen.until(lambda text: "at step 38" in text)
        await seen.pilot.press("escape")
        await seen.until(lambda text: "at step" not in text)
        await seen.pilot.hover("Picture", offset=(25, 10))
        await seen.until(lambda text: "at step 1" in text or "at step 2" in text)


@driven
async def test_closer_draws_every_point_of_what_is_left(place: Workspace) -> None:
    """4,000 steps are buckets of several; at the closest each point is there."""
    write_run(place, "long", 4000).close()
    async with opened(place, (100, 14)) as seen:
        await seen.show(run_view("long"))
        await seen.until(lambda text: "train/loss" in text)
        await seen.pilot.press("j", "left", "left")
        await seen.until(lambda text: " to " in text)
        await seen.pilot.press("plus", "plus", "plus", "plus")
        await seen.until(lambda text: "zoomed" in text and " to " not in text)
        await seen.pilot.press("0")
        await seen.until(lambda text: "zoomed" not in text)


@driven
async def test_a_zoomed_tail_follows_the_run(place: Workspace) -> None:
    async with opened(place, (100, 14)) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "train/loss" in text)
        await seen.pilot.press("j", "plus", "plus")
        await seen.until(lambda text: "zoomed" in text)
        store = MetricStore(place.runs.run("aaaa").metrics)
        more = [Record("train", step, BEGAN_S + step, {"loss": 0.5}) for step in range(401, 451)]
        store.append(2, more)
        store.close()
        seen.pane.tick()
        await seen.until(lambda text: " 440 " in text and " 340 " not in text)


@driven
async def test_the_old_curve_stays_until_the_new_one_is_read(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(place) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        go_on = threading.Event()
        look = seen.pane._source.look
        monkeypatch.setattr(
            seen.pane._source, "look", lambda question: go_on.wait(60) and look(question)
        )
        await seen.show(run_view("bbbb"))
        assert "asr-aaaa" in seen.text() and "asr-bbbb" not in seen.text()
        await seen.pilot.press("y")  # the screen is not blocked
        await seen.until(lambda text: "log y" in text and "asr-aaaa" in text)
        go_on.set()
        await seen.until(lambda text: "asr-bbbb" in text and "asr-aaaa" not in text)


@driven
async def test_nothing_is_drawn_again_while_nothing_changes(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(place) as seen:
        await seen.show(run_view("aaaa"))
        await seen.until(lambda text: "dev-clean/wer" in text)
        drawn: list[int] = []
        monkeypatch.setattr(seen.pane, "_draw", lambda: drawn.append(1))
        answers: list[int] = []
        take = seen.pane._take
        monkeypatch.setattr(seen.pane, "_take", lambda look: (take(look), answers.append(1)))
        for _ in range(3):
            await seen.show(run_view("aaaa"))
            seen.pane.tick()
            await seen.until(lambda text: bool(answers))
            answers.clear()
        assert drawn == []
