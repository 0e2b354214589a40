"""Whole screens, as text, at three sizes with a clock that stands still.

UPDATE_SNAPSHOTS=1 writes them anew: look at the difference before it is committed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from orchestra.tui.columns import DEFAULT_COLUMNS
from orchestra.tui.memory import Layout, save_layout
from orchestra.workspace import Workspace
from tests.tui.demo import NOW_S, demo
from tests.tui.monitor import Watched, monitor
from tests.tui.showing import driven, seen, until

FOLDER = Path(__file__).parent / "snapshots"
RUN = "t6ze"
SIZES = ((80, 24), (120, 36), (200, 60))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with demo(tmp_path_factory.mktemp("snapshots") / "demo") as made:
        yield made.workspace


@pytest.fixture(autouse=True)
def clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In UTC, wherever the test runs."""
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


async def compare(app: Watched, pilot: Pilot[None], name: str) -> None:
    """All but the header, which names this machine; what is still being read may come."""

    def text() -> str:
        return "\n".join(app.text.splitlines()[1:]) + "\n"

    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text(), encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    with contextlib.suppress(AssertionError):  # the difference tells more
        await until(pilot, lambda: text() == expected)
    assert text() == expected, f"differs from {path}"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@driven
async def test_main_screen(shown: Workspace, size: tuple[int, int]) -> None:
    columns = tuple(key for key in DEFAULT_COLUMNS if key != "beat")  # it has another clock
    save_layout(shown, Layout(columns=columns, tab="curves"))
    async with monitor(shown, size) as (app, pilot):
        await seen(pilot, "fbank-baseline")
        app._main.go_to(RUN)
        await seen(pilot, "hubert-base #paper seed 2 of 3")
        if size[0] > 80:
            await seen(pilot, "hubert-base 0.2999", "hubert-base 7.843")  # both curves
        await compare(app, pilot, f"main-{size[0]}x{size[1]}")


@driven
async def test_events_of_one_run(shown: Workspace) -> None:
    async with monitor(shown, (100, 30)) as (app, pilot):
        await seen(pilot, "fbank-baseline")
        app._main.go_to(RUN)
        await pilot.press("enter", "4")
        await seen(pilot, "attempt 1 crashed")
        await compare(app, pilot, "events-100x30")
