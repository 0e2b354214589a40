"""The log pane as a user sees it: follows, scrolls, searches, filters, switches, saves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, Static

from orchestra.schedule.log_save import Saving
from orchestra.schedule.log_search import Search
from orchestra.tui import log_reading
from orchestra.tui.background import Background
from orchestra.tui.log_lines import LogLines
from orchestra.tui.panes.followed_log import POLL_S
from orchestra.tui.panes.log import LogPane
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import AttemptFolder
from orchestra.workspace import Workspace, init_workspace
from tests.tui.loop import driven

RUN = "abcd2345"


class OnePane(App[None]):
    def __init__(self, workspace: Workspace, *, readonly: bool = False) -> None:
        super().__init__()
        self._workspace = workspace
        self._readonly = readonly
        self.reader = Background("reader", self.call_from_thread)

    def compose(self) -> ComposeResult:
        yield LogPane(self._workspace, self.reader, readonly=self._readonly)

    def on_mount(self) -> None:
        self.reader.start()
        self.query_one(LogPane).focus()

    def on_unmount(self) -> None:
        self.reader.stop()


class Driven:
    """A pane on a screen, and what is to be seen of it."""

    def __init__(self, app: OnePane, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot
        self.pane = app.query_one(LogPane)
        self.lines = app.query_one(LogLines)

    def seen(self) -> str:
        return "\n".join(
            "".join(segment.text for segment in self.lines.render_line(y)).rstrip()
            for y in range(self.lines.size.height)
        )

    def told(self, name: str) -> str:
        widget = self.app.query_one(f"#log-{name}", Static)
        return str(widget.render()) if widget.display else ""

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{self.told('state')}\n{self.seen()}"
            await self.pilot.pause()
            await asyncio.sleep(0.01)

    async def type(self, text: str) -> None:
        self.app.query_one(Input).value = text
        await self.pilot.press("enter")


@asynccontextmanager
async def shown_log(
    workspace: Workspace, *, readonly: bool = False, **where: int
) -> AsyncIterator[Driven]:
    app = OnePane(workspace, readonly=readonly)
    async with app.run_test(size=(80, 24)) as pilot:
        one = Driven(app, pilot)
        one.pane.open(RUN, **where)
        yield one


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return init_workspace(tmp_path / "w")


@pytest.fixture
def attempt(workspace: Workspace) -> AttemptFolder:
    return make_attempt(workspace, 1)


def make_attempt(workspace: Workspace, number: int) -> AttemptFolder:
    attempt = workspace.runs.run(RUN).job.attempt(number)
    attempt.logs.mkdir(parents=True)
    return attempt


def write(attempt: AttemptFolder, rank: int, text: str, mode: str = "a") -> None:
    with attempt.rank_log(rank).open(mode) as file:
        file.write(text)


@driven
async def test_the_end_is_shown_and_followed(workspace: Workspace, attempt: AttemptFolder) -> None:
    write(attempt, 0, "".join(f"line {n}\n" for n in range(3000)))
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line 2999" in log.seen())
        assert "● following" in log.told("state")
        write(attempt, 0, " 10%|#\r 50%|###")
        await log.until(lambda: " 50%|###" in log.seen())
        write(attempt, 0, "\r100%|#####\nend\n")
        await log.until(lambda: "end" in log.seen())
        assert " 50%" not in log.seen() and "100%|#####" in log.seen()


@driven
async def test_scrolling_up_ends_following_and_counts(
    workspace: Workspace, attempt: AttemptFolder
) -> None:
    write(attempt, 0, "".join(f"line {n:05d}\n" for n in range(20_000)))
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line 19999" in log.seen())
        await log.pilot.press("pageup")
        assert "○ not following" in log.told("state")
        before = log.seen()
        write(attempt, 0, "one more\nand another\n")
        await log.until(lambda: "2 new lines - End follows again" in log.told("new"))
        assert before.startswith(log.seen())  # what is read stays where it is
        for _ in range(60):
            await log.pilot.press("pageup")
            await log.until(lambda: not log.pane._reading.busy)
        assert "line 19999" not in log.seen()
        shown = [int(line.split()[1]) for line in log.seen().splitlines() if line]
        assert shown == list(range(shown[0], shown[0] + len(shown))) and shown[0] < 19_000
        await log.pilot.press("home")
        await log.until(lambda: "line 00000" in log.seen())
        await log.pilot.press("end")
        await log.until(lambda: "and another" in log.seen())
        assert log.told("new") == "" and "● following" in log.told("state")


@driven
async def test_all_ranks_as_one_then_each(workspace: Workspace, attempt: AttemptFolder) -> None:
    for rank in range(3):
        write(attempt, rank, f"2026-01-01 00:00:01,00{rank} INFO same words\nonly {rank}\n")
    attempt.agent_log.write_text("launched\n")
    async with shown_log(workspace) as log:
        await log.until(lambda: "0-2 │ 2026-01-01 00:00:01,000 INFO same words" in log.seen())
        assert "1 │ only 1" in log.seen()
        await log.pilot.press("right_square_bracket")
        await log.until(lambda: "only 1" not in log.seen() and "only 0" in log.seen())
        for name in ("rank1", "rank2", "launcher"):
            await log.pilot.press("right_square_bracket")
            await log.until(lambda name=name: name in log.told("state"))
        await log.until(lambda: "launched" in log.seen())
        await log.pilot.press("right_square_bracket")
        await log.until(lambda: "supervisor has written nothing" in log.told("none"))


@driven
async def test_attempts(workspace: Workspace, attempt: AttemptFolder) -> None:
    write(attempt, 0, "of the first\n")
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "of the first" in log.seen())
        write(make_attempt(workspace, 2), 0, "of the second\n")
        await log.until(lambda: "of the second" in log.seen())  # a restart is followed
        await log.pilot.press("left_curly_bracket")
        await log.until(lambda: "of the first" in log.seen())
        assert "attempt 1 of 2" in log.told("state")
        await log.pilot.press("right_curly_bracket")
        await log.until(lambda: "of the second" in log.seen())


@driven
async def test_search_up_and_down(workspace: Workspace, attempt: AttemptFolder) -> None:
    filler = "".join(f"line {n}\n" for n in range(5000))
    write(attempt, 0, f"{filler}Needle one\n{filler}needle two\n{filler}")
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line 4999" in log.seen())
        await log.pilot.press("slash")
        await log.type("needle")
        await log.until(lambda: "needle two" in log.seen())
        await log.pilot.press("N")
        await log.until(lambda: "Needle one" in log.seen())
        await log.pilot.press("N")
        await log.until(lambda: "'needle' is not above" in log.told("state"))
        await log.pilot.press("n")
        await log.until(lambda: "needle two" in log.seen())
        assert "○ not following" in log.told("state")


@driven
async def test_filter_wrap_and_sideways(workspace: Workspace, attempt: AttemptFolder) -> None:
    write(attempt, 0, f"first\n{'a' * 100}BC\nlast\n")
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "last" in log.seen())
        assert "BC" not in log.seen()
        await log.pilot.press("right")
        await log.until(lambda: "BC" in log.seen())
        write(attempt, 0, f"{'b' * 90}more\n")
        await log.until(lambda: "more" in log.seen())  # following does not go back to the left
        await log.pilot.press("w")
        await log.until(lambda: "first" in log.seen() and "BC" in log.seen())
        await log.pilot.press("ampersand")
        await log.type("st")
        await log.until(lambda: "BC" not in log.seen() and "last" in log.seen())
        await log.pilot.press("ampersand")
        await log.type("nowhere")
        await log.until(lambda: "No line here contains 'nowhere'" in log.told("none"))
        await log.pilot.press("escape")
        await log.until(lambda: "BC" in log.seen())


@driven
async def test_saving(workspace: Workspace, attempt: AttemptFolder, tmp_path: Path) -> None:
    write(attempt, 0, "".join(f"line {n}\n" for n in range(100_000)))
    target = tmp_path / "saved.log"
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line 99999" in log.seen())
        await log.pilot.press("s")
        assert log.app.query_one(Input).value == f"{RUN}-attempt1-rank0.log"
        await log.type(str(target))
        await log.until(lambda: f"in {target}" in log.told("state"))
        assert target.read_bytes() == attempt.rank_log(0).read_bytes()
        await log.pilot.press("s")
        await log.type(str(target))
        await log.until(lambda: "exists" in log.told("state"))


@driven
async def test_an_ended_save_says_what_is_left_of_it(
    workspace: Workspace, attempt: AttemptFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(saving: Saving, budget_s: float) -> bool:
        saving.target.write_text("a part")
        saving.saved_bytes = 6
        return False

    monkeypatch.setattr(Saving, "advance", advance)
    write(attempt, 0, "line\n")
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line" in log.seen())
        await log.pilot.press("s")
        await log.type(str(tmp_path / "saved.log"))
        await log.until(lambda: "saving, 6 B" in log.told("state"))
        await log.pilot.press("escape")
        await log.until(lambda: "saved.log holds only the first 6 B" in log.told("state"))


@driven
async def test_read_only_writes_no_file(
    workspace: Workspace, attempt: AttemptFolder, tmp_path: Path
) -> None:
    write(attempt, 0, "line\n")
    target = tmp_path / "saved.log"
    async with shown_log(workspace, rank=0, readonly=True) as log:
        await log.until(lambda: "line" in log.seen())
        await log.pilot.press("s")
        assert not log.app.query_one(Input).display
        log.pane.action_ask("save")  # by another way than the key
        assert not log.app.query_one(Input).display and "read-only" in log.told("state")
        await log.pilot.press("slash")  # other questions are asked
        assert log.app.query_one(Input).display
        log.pane._asks = "save"
        await log.type(str(target))
        await log.until(lambda: not log.app.query_one(Input).display)
        assert log.pane._saving.work is None and not target.exists()


@driven
async def test_what_is_asked_while_the_reader_is_busy_is_not_lost(
    workspace: Workspace, attempt: AttemptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"line {n}\n" for n in range(3000))
    write(attempt, 0, f"needle first\n{lines}needle last\n")
    gate, read = threading.Event(), log_reading.answer

    def gated(*arguments: Any) -> log_reading.Looked:
        assert gate.wait(60)
        return read(*arguments)

    gate.set()
    monkeypatch.setattr(log_reading, "answer", gated)
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "needle last" in log.seen())
        gate.clear()
        await log.until(lambda: log.pane._reading.busy)
        await log.pilot.press("home")
        await log.pilot.press("ampersand")
        await log.type("needle")
        gate.set()
        await log.until(lambda: "needle first" in log.seen())
        assert "line" not in log.seen() and "only lines with 'needle'" in log.told("state")
        gate.clear()
        await log.until(lambda: log.pane._reading.busy)
        await log.pilot.press("escape", "end")  # all lines again, and their end
        gate.set()
        await log.until(lambda: "line 2999" in log.seen() and "needle last" in log.seen())


@driven
async def test_a_problem_of_a_search_leaves_the_reader_s_turn_alone(
    workspace: Workspace, attempt: AttemptFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def advance(search: Search, budget_s: float) -> bool:
        raise OrchestraError("the disk is away")

    monkeypatch.setattr(Search, "advance", advance)
    write(attempt, 0, "line\n")
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line" in log.seen())
        await log.pilot.press("slash")
        await log.type("x")
        await log.until(lambda: "the disk is away" in log.told("state"))
        write(attempt, 0, "more\n")
        await log.until(lambda: "more" in log.seen())


@driven
async def test_sentences_instead_of_nothing(workspace: Workspace) -> None:
    async with shown_log(workspace) as log:
        await log.until(lambda: "Not started yet" in log.told("none"))
        attempt = make_attempt(workspace, 1)
        await log.until(lambda: "Nothing is written in attempt 1" in log.told("none"))
        write(attempt, 0, "")
        await log.until(lambda: "empty so far" in log.told("none"))
        write(attempt, 0, "hello\n")
        await log.until(lambda: "hello" in log.seen())
        write(attempt, 0, "hi\n", "w")
        await log.until(lambda: "cut or replaced" in log.told("state"))
        assert "hi" in log.seen() and "hello" not in log.seen()
        attempt.rank_log(0).unlink()
        await log.until(lambda: "Nothing is written in attempt 1" in log.told("none"))


@driven
async def test_the_mouse_wheel_and_a_hidden_pane(
    workspace: Workspace, attempt: AttemptFolder
) -> None:
    write(attempt, 0, "".join(f"line {n}\n" for n in range(1000)))
    async with shown_log(workspace, rank=0) as log:
        await log.until(lambda: "line 999" in log.seen())
        await log.pilot._post_mouse_events([_wheel()], log.lines, offset=(5, 5))
        await log.until(lambda: "○ not following" in log.told("state"))
        asked: list[str] = []
        ask = log.app.reader.ask

        def counted(slot: str, *rest: Any) -> None:
            asked.append(slot)
            ask(slot, *rest)

        log.app.reader.ask = counted  # type: ignore[method-assign]
        beats: list[int] = []
        log.app.set_interval(POLL_S, lambda: beats.append(1))
        await log.until(lambda: len(beats) >= 4)
        assert asked  # control: while it can be seen it does ask
        log.pane.display = False
        await log.until(lambda: not log.pane._reading.busy)
        asked.clear()
        beats.clear()
        await log.until(lambda: len(beats) >= 4)
        assert asked == []
        log.pane.display = True
        await log.until(lambda: bool(asked))


def _wheel() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


@driven
async def test_a_run_is_meant_before_the_pane_is_on_the_screen(
    workspace: Workspace, attempt: AttemptFolder
) -> None:
    write(attempt, 0, "hello\n")
    app = OnePane(workspace)
    pane = LogPane(workspace, app.reader)
    pane.open(RUN)
    app.compose = lambda: iter([pane])  # type: ignore[method-assign]
    async with app.run_test(size=(80, 24)) as pilot:
        log = Driven(app, pilot)
        await log.until(lambda: "hello" in log.seen())
