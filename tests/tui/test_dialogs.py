"""What each dialog shows, what it refuses, and what it ends with."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static, TextArea

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.reap import Fate, Findings, Leftover, Stranger, Verdict, find
from orchestra.schedule.stake import at_stake
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import staged
from orchestra.supervise import tree
from orchestra.tui.actions import Clone, Evaluate, Reap, Relabel, Remove, Resume, command_of
from orchestra.tui.dialog import Dialog
from orchestra.tui.dialogs import (
    CloneDialog,
    EvaluateDialog,
    LabelDialog,
    ReapDialog,
    RemoveDialog,
    StopDialog,
)
from orchestra.wire.identity import user_name
from orchestra.wire.job import JOB, RUN, TAG, JobState
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace
from tests.chaos.sandbox import Sandbox, end_conductor, wait_for
from tests.tui.desk import Desk, until

SMALL = (80, 24)
HOSTILE = "[/foo] [@click=app.quit]x[/] \x1b]52;c;eA==\x07"


def shown(dialog: Dialog) -> str:
    return "\n".join(str(item.content) for item in dialog.query(Static))


def verdict(dialog: Dialog) -> str:
    return str(dialog.query_one("#verdict", Static).content)


def is_whole(dialog: Dialog) -> bool:
    """Whether every button is on the screen."""
    screen = dialog.size.region
    return all(button.region in screen and button.region.area for button in dialog.query(Button))


async def opened(desk: Desk, pilot: Pilot[None], dialog: Dialog) -> list[Any]:
    """Shows it; what it ends with comes into the list."""
    answers: list[Any] = []
    await desk.push_screen(dialog, answers.append)
    await pilot.pause()
    assert dialog.focused is dialog.query_one("#cancel") and is_whole(dialog)
    return answers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace and a run of the example task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
        workspace = init_workspace(tmp_path_factory.mktemp("dialogs") / "workspace")
    subprocess.run(["git", "init", "-q", workspace.root], check=True)
    given = (Given("launch.device", "cpu", "--cpu"),)
    with staged(workspace, Submission("example", given=given, presets=("debug",))) as stage:
        return workspace, stage.commit().key.run_id


@pytest.fixture
def stopped(made: tuple[Workspace, str]) -> Iterator[tuple[Workspace, str]]:
    """That run, stopped, with checkpoints of steps 4 and 8 of 10."""
    workspace, run_id = made
    run = workspace.runs.run(run_id)
    for step in (4, 8):
        run.checkpoint(step).mkdir(parents=True, exist_ok=True)
    JobState(RunState.STOPPED, "", 1, 0.0).write(run.job)
    with open_registry(workspace.runs) as registry:
        registry.transition(JobKey(run_id), set(RunState), RunState.STOPPED)
    yield workspace, run_id
    end_conductor(workspace.runs)


def test_resume_tells_while_it_is_typed_what_it_would_do(stopped: tuple[Workspace, str]) -> None:
    workspace, run_id = stopped

    async def work() -> None:
        desk = Desk(workspace, run_id)
        async with desk.run_test(size=SMALL) as pilot:
            await pilot.press("r")
            dialog = await until("it", lambda: isinstance(desk.screen, Dialog) and desk.screen)
            button = dialog.query_one("#resume", Button)
            await until("step 8", lambda: "goes on from step 8" in verdict(dialog))
            assert not button.disabled and is_whole(dialog)
            dialog.query_one("#from", Select).value = "4"
            await until("step 4", lambda: "from step 4; checkpoints 8 are moved" in verdict(dialog))
            sets = dialog.query_one("#sets", TextArea)
            sets.text = "optim.lrr=1"
            await until("the nearest key", lambda: "did you mean optim.lr?" in verdict(dialog))
            assert button.disabled
            sets.text = "batch.seconds=3"
            await until("why not", lambda: "a run that is resumed keeps it" in verdict(dialog))
            assert button.disabled
            sets.text = "optim.lr=0.5\n\ntrain.max_steps=20"
            await until("the keys", lambda: "optim.lr, train.max_steps" in verdict(dialog))
            await pilot.press("escape")
            await until("its end", lambda: desk.screen is desk.runs)
        told = "--from 4 --set optim.lr=0.5 --set train.max_steps=20 --detach"
        seen = at_stake(workspace, run_id).seen
        action = Resume((seen,), "4", ("optim.lr=0.5", "train.max_steps=20"))
        assert command_of(action) == f"orchestra resume {run_id} {told}"

    asyncio.run(work())
    assert JobState.read(workspace.runs.run(run_id).job).state == RunState.STOPPED


def test_evaluate_offers_splits_and_checkpoints_that_are_there(
    stopped: tuple[Workspace, str],
) -> None:
    workspace, run_id = stopped

    async def work() -> None:
        desk = Desk(workspace, run_id)
        async with desk.run_test(size=SMALL) as pilot:
            stake = at_stake(workspace, run_id)
            dialog = EvaluateDialog(desk.actions, [stake], ["[/test]", "valid"])
            answers = await opened(desk, pilot, dialog)
            dialog.query_one("#checkpoint", Select).value = "4"
            await pilot.pause()
            assert f"eval {run_id} --split '[/test]' --checkpoint 4 --detach" in shown(dialog)
            await pilot.click("#evaluate")
            assert answers == [Evaluate((stake.seen,), "[/test]", "4")]
            nothing = EvaluateDialog(desk.actions, [stake], [])
            await opened(desk, pilot, nothing)
            assert nothing.query_one("#evaluate", Button).disabled
            assert "orchestra data prepare" in shown(nothing)

    asyncio.run(work())


def test_label_says_only_what_differs(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            stake = at_stake(sandbox.workspace, job.run.id)
            dialog = LabelDialog(desk.actions, [stake], ["old", HOSTILE], HOSTILE)
            answers = await opened(desk, pilot, dialog)
            assert dialog.query_one("#label", Button).disabled  # nothing differs
            dialog.query_one("#tags", Input).value = "paper -old"
            dialog.query_one("#name", Input).value = "better"
            await pilot.pause()
            assert "label" in shown(dialog) and "--tag paper --untag old" in shown(dialog)
            await pilot.click("#label")
            assert answers == [Relabel((stake.seen,), "better", ("paper",), ("old",))]

    asyncio.run(work())


def test_clone_takes_a_name_and_changes(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            stake = at_stake(sandbox.workspace, job.run.id)
            dialog = CloneDialog(desk.actions, stake)
            answers = await opened(desk, pilot, dialog)
            dialog.query_one("#sets", TextArea).text = "optim.lr=1\n"
            await pilot.pause()
            await pilot.click("#clone")
            assert answers == [Clone(stake.seen, None, ("optim.lr=1",))]

    asyncio.run(work())


def test_delete_tells_what_goes_and_deletes_that(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    JobState(RunState.STOPPED, "", 0, 0.0).write(job)
    with sandbox.registry() as registry:
        registry.transition(JobKey(job.run.id), set(RunState), RunState.STOPPED)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            await pilot.press("D")
            dialog = await until(
                "it", lambda: isinstance(desk.screen, RemoveDialog) and desk.screen
            )
            await pilot.pause()
            assert str(job.run.path) in shown(dialog) and "for good" in shown(dialog)
            await pilot.click("#remove")
            (done,) = await until("the deed", lambda: desk.runs.done)
            assert done.performed.sentence == f"{job.run.id}: deleted"
            assert done.performed.command.endswith(f"rm {job.run.id} --yes")

    asyncio.run(work())
    assert not job.folder.exists()
    sandbox.jobs.remove(job)


def test_reap_shows_its_evidence_and_wants_the_number(sandbox: Sandbox) -> None:
    def left(number: int, fate: Fate) -> Leftover:
        verdict = Verdict(fate, "its supervisor is dead")
        return Leftover(
            f"t{number}", "h7k2", "/r", number, f"python {HOSTILE}", 99.0, 2**30, verdict
        )

    dead = tuple(left(number, Fate.DEAD) for number in range(1001, 1013))
    stranger = Stranger(77, "bob", "python x.py", 5.0, None, "its parent is pid 1")
    findings = Findings(dead, (left(2001, Fate.UNKNOWN),), (stranger,))

    async def work() -> None:
        desk = Desk(sandbox.workspace)
        async with desk.run_test(size=SMALL) as pilot:
            dialog = ReapDialog(desk.actions, findings)
            answers = await opened(desk, pilot, dialog)
            text = shown(dialog)
            assert "pid 1012  run h7k2  age 1m39s  1.0 GiB on GPUs" in text
            assert "its supervisor is dead" in text and "never killed" in text and "of bob" in text
            await pilot.press("pagedown")
            assert dialog.query_one("#body").scroll_y > 0
            button = dialog.query_one("#reap", Button)
            assert button.disabled
            dialog.query_one("#count", Input).value = "12"
            await pilot.pause()
            await pilot.click("#reap")
            assert answers == [Reap(findings)]
            one = ReapDialog(desk.actions, replace(findings, dead=dead[:1]))
            await opened(desk, pilot, one)
            assert one.query_one("#reap", Button).disabled  # one, too, wants to be typed
            none = ReapDialog(desk.actions, replace(findings, dead=()))
            await opened(desk, pilot, none)
            assert [button.id for button in none.query(Button)] == ["cancel"]

    asyncio.run(work())


def test_reap_kills_what_was_shown_and_tells_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(nproc=1)
    tag = f"{job.run.id}.1.{os.urandom(4).hex()}"
    environment = {TAG: tag, RUN: job.run.id, JOB: str(job.folder)}
    process = subprocess.Popen(["/bin/sleep", "600"], env=environment)
    environ = Path(f"/proc/{process.pid}/environ")
    wait_for("its environment", lambda: tag.encode() in environ.read_bytes())
    scan = tree.scan
    monkeypatch.setattr(tree, "scan", lambda: [item for item in scan() if item.tag == tag])

    async def work() -> None:
        desk = Desk(sandbox.workspace)
        async with desk.run_test(size=SMALL) as pilot:
            await pilot.press("R")
            dialog = await until("it", lambda: isinstance(desk.screen, ReapDialog) and desk.screen)
            await pilot.pause()
            assert f"pid {process.pid}" in shown(dialog)
            dialog.query_one("#count", Input).value = "1"
            await pilot.pause()
            await pilot.click("#reap")
            (done,) = await until("the deed", lambda: desk.runs.done)
            assert done.performed.sentence == "killed 1"

    try:
        asyncio.run(work())
        assert process.wait(60) == -9
    finally:
        process.kill()
        process.wait()
    with sandbox.registry() as registry:
        texts = [event.text for event in registry.events(job.run.id)]
    assert f"reap of 1 left behind asked by {user_name()}" in texts
    assert find().dead == ()


@pytest.mark.parametrize("size", [SMALL, (120, 36), (200, 60)])
def test_what_is_called_after_an_attack_is_only_text(
    sandbox: Sandbox, size: tuple[int, int]
) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=size) as pilot:
            stake = replace(
                at_stake(sandbox.workspace, job.run.id), name=HOSTILE, folder=Path(f"/{HOSTILE}")
            )
            for dialog in (
                StopDialog(desk.actions, [stake]),
                RemoveDialog(desk.actions, [stake], [HOSTILE]),
                LabelDialog(desk.actions, [stake], [HOSTILE], HOSTILE),
                CloneDialog(desk.actions, stake),
                EvaluateDialog(desk.actions, [stake], [HOSTILE]),
            ):
                answers = await opened(desk, pilot, dialog)
                assert "[/foo]" in shown(dialog)
                strips = dialog._compositor.render_strips()
                assert "\x1b" not in "".join(item.text for strip in strips for item in strip)
                await pilot.press("enter")
                assert answers == [None]

    asyncio.run(work())


def test_a_command_line_can_be_given_to_a_shell(sandbox: Sandbox) -> None:
    seen = at_stake(sandbox.workspace, sandbox.add_run(nproc=1).run.id).seen
    both = (replace(seen, run_id="a b"), replace(seen, run_id="$(x)"))
    line = command_of(Remove(both), ("echo", "--workspace", "/x y/RUN"))
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == "--workspace /x y/RUN rm a b --yes\n--workspace /x y/RUN rm $(x) --yes\n"


def test_what_is_pasted_is_made_harmless_as_it_comes_in(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)

    async def work() -> None:
        desk = Desk(sandbox.workspace, job.run.id)
        async with desk.run_test(size=SMALL) as pilot:
            stake = at_stake(sandbox.workspace, job.run.id)
            dialog = CloneDialog(desk.actions, stake)
            await opened(desk, pilot, dialog)
            for field in ("#name", "#sets"):
                dialog.query_one(field).focus()
                await pilot.pause()
                desk.post_message(Paste("a\x1b[31mb"))
                await pilot.pause()
            assert dialog.query_one("#name", Input).value == "a\\x1b[31mb"
            assert dialog.query_one("#sets", TextArea).text == "a\\x1b[31mb"

    asyncio.run(work())
