"""Keys, dialogs and deeds: what is confirmed happens, and nothing else does."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList, Static

from orchestra.registry.rows import JobKey
from orchestra.schedule.stake import at_stake
from orchestra.schedule.submission import Submission
from orchestra.tui.actions import Actions, Clone, Evaluate, Relabel, Resume, Start, Stop
from orchestra.tui.clipboard import copied_path
from orchestra.tui.dialog import Dialog
from orchestra.tui.dialogs import StopDialog
from orchestra.tui.new_run import NewRunScreen
from orchestra.tui.new_run_form import CPU, Form
from orchestra.wire.errors import ConflictError, OrchestraError
from orchestra.wire.folders import Job
from orchestra.wire.identity import user_name
from orchestra.wire.job import JobState, StopFlag
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.chaos.sandbox import Sandbox
from tests.tui.desk import Desk, until

SMALL = (80, 24)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def dialog_of(desk: Desk, pilot: Pilot[None], key: str) -> Dialog:
    """The dialog that a key opens."""
    await pilot.press(key)
    found = await until("a dialog", lambda: isinstance(desk.screen, Dialog) and desk.screen)
    await pilot.pause()
    return found


def shown(dialog: Dialog) -> str:
    return "\n".join(str(item.content) for item in dialog.query(Static))


def events(sandbox: Sandbox, job: Job) -> list[str]:
    with sandbox.registry() as registry:
        return [event.text for event in registry.events(job.run.id)]


def test_stop_names_what_ends_and_what_stays_and_then_really_stops(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    attempt = sandbox.held(job)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            dialog = await dialog_of(desk, pilot, "s")
            text = shown(dialog)
            assert all(f"pid {pid}" in text for pid in attempt.ranks)
            assert "checkpoint of step 5" in text and "a kill loses 1 step" in text
            assert f"$ {' '.join(desk.actions.program)} stop {job.run.id}" in text
            await pilot.click("#kill")
            (done,) = await until("the deed", lambda: desk.runs.done)
            assert not done.performed.failed and done.performed.command.endswith("--now")
            assert desk.told == [f"{job.run.id}: to be killed now"]

    run(work())
    assert sandbox.wait_end(job).state == RunState.STOPPED
    assert f"stop now asked by {user_name()}" in events(sandbox, job)
    assert sandbox.alive(job) == []


def test_enter_and_escape_are_harmless(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            for key in ("enter", "escape"):
                dialog = await dialog_of(desk, pilot, "s")
                assert dialog.focused is dialog.query_one("#cancel")
                await pilot.press(key)
                await until("its end", lambda: desk.screen is desk.runs)
        assert list(desk.actions.log) == []

    run(work())
    assert JobState.read(job).state == RunState.QUEUED
    assert events(sandbox, job) == ["queued"]


def test_several_runs_want_their_number_typed(sandbox: Sandbox) -> None:
    jobs = [sandbox.add_run(nproc=1) for _ in range(2)]

    async def work() -> None:
        desk = Desk(sandbox.workspace, *(job.run.id for job in jobs))
        async with desk.run_test(size=SMALL) as pilot:
            dialog = await dialog_of(desk, pilot, "s")
            stop, count = dialog.query_one("#stop", Button), dialog.query_one("#count", Input)
            for typed, may in (("", False), ("1", False), ("2", True), ("22", False), ("2", True)):
                count.value = typed
                await pilot.pause()
                assert stop.disabled is not may, typed
            await pilot.click("#stop")
            await until("the deed", lambda: desk.runs.done)
            assert "for run in" in desk.actions.log[0].command

    run(work())
    assert {JobState.read(job).state for job in jobs} == {RunState.STOPPED}


def test_what_changed_while_the_question_was_read_is_not_stopped(sandbox: Sandbox) -> None:
    job = sandbox.start(sandbox.add_run(hold=True))
    sandbox.held(job)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            await dialog_of(desk, pilot, "s")
            sandbox.kill_supervisor(job)
            sandbox.start(job)  # another attempt, under another supervisor
            await until("attempt 2", lambda: len(sandbox.attempts(job)) == 2)
            await pilot.click("#kill")
            (done,) = await until("the refusal", lambda: desk.runs.done)
            assert done.performed.failed
            assert "has changed meanwhile" in desk.told[-1]

    run(work())
    assert StopFlag.read(job) is None


def test_a_check_that_hangs_keeps_no_stop_waiting(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a hub does not answer."""
    job = sandbox.add_run(nproc=1)
    checking, go_on = threading.Event(), threading.Event()

    def hang(workspace: Workspace, asked: Submission) -> None:
        checking.set()
        go_on.wait()

    monkeypatch.setattr("orchestra.tui.new_run._compose", hang)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            form = Form("example", device=CPU)
            await desk.push_screen(NewRunScreen(desk.actions, desk.background_checks, form))
            await until("the check", checking.is_set)
            await pilot.press("escape")
            dialog = await dialog_of(desk, pilot, "s")
            await pilot.click(dialog.query_one("#stop"))
            await until("the deed", lambda: desk.runs.done)
            go_on.set()

    run(work())
    assert JobState.read(job).state == RunState.STOPPED


def test_what_is_done_is_in_the_command_log_and_can_be_copied(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            dialog = await dialog_of(desk, pilot, "s")
            await pilot.press("ctrl+y")
            assert copied_path().read_text().endswith(f"stop {job.run.id}")
            await pilot.click(dialog.query_one("#stop"))
            await until("the deed", lambda: desk.runs.done)
            desk.runs.perform(Stop((at_stake(sandbox.workspace, job.run.id).seen,)))
            await until("the refusal", lambda: len(desk.runs.done) == 2)
            await pilot.press("at")
            await pilot.pause()
            lines = [str(item.prompt) for item in desk.screen.query_one(OptionList).options]
            assert [line[0] for line in lines] == ["✓", "✗"]
            assert "asked to save and end" in lines[0] and "has ended already" in lines[1]
            await pilot.press("up", "enter", "escape")
            assert copied_path().read_text() == desk.actions.log[0].command
            assert desk.screen is desk.runs

    run(work())


def test_where_a_run_lies_and_how_it_was_made_is_told_and_copied(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id, readonly=True)
        async with desk.run_test(size=SMALL) as pilot:
            await pilot.press("F")  # no shell where it is read-only
            await until("it", lambda: desk.told)
            assert desk.told[-1].startswith(str(job.run.path))
            assert copied_path().read_text() == str(job.run.path)
            await pilot.press("Y")
            await until("it", lambda: len(desk.told) == 2)
            assert copied_path().read_text() == f"orchestra show {job.run.id}"

    run(work())


@pytest.mark.parametrize("changed", [True, False])
def test_neither_evaluated_nor_cloned_if_it_is_not_as_it_was_shown(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    job = sandbox.add_run(nproc=1)
    actions = Actions(sandbox.workspace, readonly=False)
    seen = at_stake(sandbox.workspace, job.run.id).seen
    if changed:
        sandbox.stop(job)
    done: list[str] = []
    monkeypatch.setattr(actions, "_evaluate", lambda *_: done.append("evaluated") or "evaluated")
    monkeypatch.setattr(actions, "_clone", lambda *_: done.append("cloned") or "cloned")
    for action in (Evaluate((seen,), "test"), Clone(seen)):
        if changed:
            with pytest.raises(ConflictError, match="has changed meanwhile"):
                actions.perform(action)
        else:
            actions.perform(action)
    assert done == ([] if changed else ["evaluated", "cloned"])


def test_a_label_is_no_matter_of_what_the_run_does_meanwhile(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop is: see above."""
    job = sandbox.add_run(nproc=1)
    actions = Actions(sandbox.workspace, readonly=False)
    seen = at_stake(sandbox.workspace, job.run.id).seen
    sandbox.stop(job)
    given: list[Any] = []
    labels = ModuleType("labels")

    def relabel(*words: Any, **more: Any) -> SimpleNamespace:
        given.append((words, more))
        return SimpleNamespace(changes=("tagged paper",))

    labels.relabel = relabel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestra.schedule.labels", labels)
    told = actions.perform(Relabel((seen,), add=("paper",)))
    assert told == f"{job.run.id}: tagged paper"
    ((words, more),) = given
    assert words == (sandbox.workspace, job.run.id) and more["add"] == ("paper",)


def test_what_is_said_while_a_model_is_fetched_arrives(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(nproc=1)
    told: list[str] = []
    actions = Actions(sandbox.workspace, readonly=False, tell=told.append)
    seen = at_stake(sandbox.workspace, job.run.id).seen

    def fetching(of: str) -> Any:
        def say(*words: Any, tell: Any = None, **more: Any) -> None:
            (tell or words[-1])(f"{of}: 40 MB of 1 GB")
            raise ConflictError("enough")

        return say

    for module, name in (("submit", "staged"), ("resume", "resume")):
        monkeypatch.setattr(f"orchestra.schedule.{module}.{name}", fetching(name))
    monkeypatch.setattr("orchestra.schedule.evaluate.submit_evaluation", fetching("eval"))
    for action in (Start(Submission("example")), Resume((seen,)), Evaluate((seen,), "test")):
        with pytest.raises(OrchestraError, match="enough"):
            actions.perform(action)
    assert told == [f"{of}: 40 MB of 1 GB" for of in ("staged", "resume", "eval")]


@pytest.mark.parametrize("readonly", [True, False])
def test_read_only_refuses_at_the_key(sandbox: Sandbox, readonly: bool) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id, readonly=readonly)
        async with desk.run_test(size=SMALL) as pilot:
            enabled = {key: item.enabled for key, item in desk.runs.active_bindings.items()}
            writing = ("s", "r", "v", "n", "C", "L", "D", "R")
            assert [enabled[key] for key in writing] == [not readonly] * len(writing)
            assert enabled["F"] and enabled["Y"]
            await pilot.press("s")
            if readonly:
                await pilot.pause()
                assert desk.screen is desk.runs
                await desk.runs.run_action("stop")  # from a palette, say
                desk.runs.action_stop()
                await pilot.pause()
                assert desk.screen is desk.runs and "read-only" in desk.told[-1]
            else:
                await until("a dialog", lambda: isinstance(desk.screen, StopDialog))

    run(work())


@pytest.mark.parametrize("readonly", [True, False])
def test_read_only_refuses_in_the_dialog(sandbox: Sandbox, readonly: bool) -> None:
    job = sandbox.add_run(nproc=1)
    answers: list[Any] = []

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id, readonly=readonly)
        async with desk.run_test(size=SMALL) as pilot:
            stake = at_stake(sandbox.workspace, job.run.id)
            dialog = StopDialog(desk.actions, [stake])
            await desk.push_screen(dialog, answers.append)
            await pilot.pause()
            button = dialog.query_one("#stop", Button)
            assert button.disabled is readonly
            assert ("read-only" in shown(dialog)) is readonly
            button.disabled = False  # even so
            button.press()
            await pilot.pause()
            await until("an answer", lambda: answers or readonly)

    run(work())
    assert bool(answers) is not readonly


@pytest.mark.parametrize("readonly", [True, False])
def test_read_only_refuses_in_the_function(sandbox: Sandbox, readonly: bool) -> None:
    job = sandbox.add_run(nproc=1)
    actions = Actions(sandbox.workspace, readonly=readonly)
    stop = Stop((at_stake(sandbox.workspace, job.run.id).seen,))
    if readonly:
        with pytest.raises(ConflictError, match="read-only"):
            actions.perform(stop)
        assert JobState.read(job).state == RunState.QUEUED
    else:
        assert actions.perform(stop) == f"{JobKey(job.run.id)}: asked to save and end"
        assert JobState.read(job).state == RunState.STOPPED
