"""The form of a new run: its command line, its plan, and the run that it starts."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static, TextArea

from orchestra.cli.main import build
from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.submission import Submission
from orchestra.schedule.watch import wait_for
from orchestra.tui.new_run import NewRunScreen
from orchestra.tui.new_run_form import CPU, GPU, Form, submission
from orchestra.wire.errors import OrchestraError, UsageError
from orchestra.wire.files import read_json
from orchestra.wire.identity import user_name
from orchestra.workspace import Workspace, init_workspace
from tests.chaos.sandbox import end_conductor
from tests.tui.desk import Desk, until


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
    made = init_workspace(tmp_path / "workspace")
    subprocess.run(["git", "init", "-q", made.root], check=True)
    return made


@asynccontextmanager
async def form_of(
    desk: Desk, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[Pilot[None], NewRunScreen]]:
    """The open form, once it knows the tasks."""
    async with desk.run_test(size=size) as pilot:
        await pilot.press("n")
        screen = await until(
            "the form", lambda: isinstance(desk.screen, NewRunScreen) and desk.screen
        )
        await until(
            "the tasks", lambda: "choose a task" in str(screen.query_one("#task", Select).prompt)
        )
        await pilot.pause()
        yield pilot, screen


def verdict(screen: NewRunScreen) -> str:
    return str(screen.query_one("#verdict", Static).content)


def may_start(screen: NewRunScreen) -> bool:
    return not screen.query_one("#start", Button).disabled


def captured(words: list[str], monkeypatch: pytest.MonkeyPatch, root: Path) -> Submission:
    """What `orchestra` makes of a command line."""
    found: list[Submission] = []

    def staged(workspace: Workspace, asked: Submission, tell: object) -> None:
        found.append(asked)
        raise UsageError("enough")

    monkeypatch.setattr("orchestra.schedule.submit.staged", staged)
    monkeypatch.setattr("sys.argv", ["orchestra", *words])
    with pytest.raises(UsageError, match="enough"):
        build(["run"])(["--workspace", str(root), *words], standalone_mode=False)
    return found[0]


@pytest.mark.parametrize(
    "form",
    [
        Form("example"),
        Form("example", "wavlm", "debug example", GPU, "4", ("optim.lr=3e-4",), "mine", "-2"),
        Form("example", device=CPU, ranks="2", sets=('data.root="a b"', "train.max_steps=3")),
        Form("example", device=GPU),
    ],
)
def test_the_command_line_asks_for_the_very_same(
    workspace: Workspace, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = submission(form, ("orchestra",))
    words = shlex.split(form.command(("orchestra",)))[1:]
    assert captured(words, monkeypatch, workspace.root) == asked


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (Form(), "choose a task"),
        (Form("x", device=GPU, ranks="many"), "no whole number"),
        (Form("x", device=CPU, ranks="0"), "give 1 or more"),
        (Form("x", priority="high"), "priority: 'high'"),
    ],
)
def test_what_can_not_be_read_is_named(form: Form, told: str) -> None:
    with pytest.raises(OrchestraError, match=told):
        submission(form, ("orchestra",))


def test_it_can_be_started_when_its_plan_is_made_and_not_before(workspace: Workspace) -> None:
    async def work() -> None:
        desk = Desk(workspace)
        async with form_of(desk) as (pilot, screen):
            assert not may_start(screen)
            screen.query_one("#task", Select).value = "example"
            screen.query_one("#device", Select).value = CPU
            sets = screen.query_one("#sets", TextArea)
            sets.text = "optim.lrr=1"
            await until("the error", lambda: "did you mean optim.lr?" in verdict(screen))
            await pilot.press("ctrl+s")
            assert not may_start(screen) and desk.screen is screen
            sets.text = "optim.lr=3e-4"
            await until("the plan", lambda: may_start(screen))
            plan = str(screen.query_one("#plan", Static).content)
            assert "cpu, 1 rank" in plan and "sha256" in plan
            command = str(screen.query_one("#command", Static).content)
            assert command.endswith("run example --cpu --set optim.lr=3e-4 --detach")
            sets.text = "optim.lr=nonsense"
            await until("it to be dim again", lambda: not may_start(screen))
            await until("why", lambda: "optim.lr" in verdict(screen) and "✗" in verdict(screen))
            await pilot.press("escape")
            await until("the end", lambda: desk.screen is desk.runs)
        assert not workspace.runs.registry.is_file()  # looking makes nothing

    asyncio.run(work())


def test_a_name_that_none_may_have_is_told_while_it_is_typed(workspace: Workspace) -> None:
    async def work() -> None:
        desk = Desk(workspace)
        async with form_of(desk) as (_, screen):
            screen.query_one("#task", Select).value = "example"
            screen.query_one("#device", Select).value = CPU
            screen.query_one("#name", Input).value = "[/foo]"
            await until("why", lambda: "a name has" in verdict(screen))
            assert "[/foo]" in str(screen.query_one("#command", Static).content)

    asyncio.run(work())


def test_read_only_plans_and_does_not_start(workspace: Workspace) -> None:
    async def work() -> None:
        desk = Desk(workspace, readonly=True)
        async with desk.run_test(size=(120, 36)) as pilot:
            screen = NewRunScreen(desk.actions, desk.background_checks, Form("example", device=CPU))
            answers: list[object] = []
            await desk.push_screen(screen, answers.append)
            await until("the plan", lambda: "read-only" in verdict(screen))
            button = screen.query_one("#start", Button)
            assert button.disabled
            button.disabled = False
            button.press()
            await pilot.pause()
            assert desk.screen is screen and answers == []

    asyncio.run(work())


@pytest.mark.slow
def test_the_run_is_there_and_its_conductor_cares_for_it(workspace: Workspace) -> None:
    async def work() -> None:
        desk = Desk(workspace)
        async with form_of(desk, (120, 36)) as (pilot, screen):
            screen.query_one("#task", Select).value = "example"
            screen.query_one("#device", Select).value = CPU
            screen.query_one("#presets", Input).value = "debug"
            screen.query_one("#name", Input).value = "first"
            await until("the plan", lambda: may_start(screen))
            await pilot.press("ctrl+s")
            (done,) = await until("the start", lambda: desk.runs.done)
            assert not done.performed.failed, done.performed.sentence
            assert "first" in done.performed.sentence and "started" in done.performed.sentence

    asyncio.run(work())
    with open_registry(workspace.runs) as registry:
        row = registry.run_named("first")
        assert row is not None
        texts = [event.text for event in registry.events(row.id)]
    assert f"run asked by {user_name()}" in texts
    argv = read_json(workspace.runs.run(row.id).identity)["argv"]
    assert argv[-6:] == ["--preset", "debug", "--cpu", "--name", "first", "--detach"]
    assert wait_for(workspace, JobKey(row.id), 120.0).state == "completed"
    end_conductor(workspace.runs)  # it goes by itself; the test does not wait for that
