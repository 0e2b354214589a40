from __future__ import annotations

import pytest
import tomli_w

from orchestra.registry.rows import RunRow
from orchestra.tui.panes.checkpoints import CheckpointsPane
from tests.chaos.sandbox import Sandbox
from tests.schedule.conftest import sandbox
from tests.tui.showing import driven, focus_on, seen, showing
from tests.wire.checkpoint_folders import make_checkpoint

__all__ = ["sandbox"]


@pytest.fixture
def run(sandbox: Sandbox) -> Sandbox:
    job = sandbox.add_run(run_id="one")
    policy = {"every": 50, "keep_last": 2, "keep_best": 1}
    job.config.write_text(tomli_w.dumps({"checkpoint": policy}))
    return sandbox


def row(run: Sandbox) -> RunRow:
    with run.registry() as registry:
        return registry.get_run("one")


@driven
async def test_none_yet(run: Sandbox) -> None:
    async with showing(lambda reader: CheckpointsPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "no checkpoint yet: the first is saved after step 50")


@driven
async def test_the_best_is_marked_and_why_each_is_kept(run: Sandbox) -> None:
    folder = run.jobs[0].run.checkpoints
    for step, score in ((50, 7.5), (100, 6.25), (150, 8.0), (200, None)):
        make_checkpoint(folder, step, score)
    (folder / ".quarantine" / "step-00000025.1").mkdir(parents=True)
    (folder / ".quarantine" / "step-00000025.1" / "reason.txt").write_text("cut [/foo] off")
    async with showing(lambda reader: CheckpointsPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        text = await seen(pilot, "★", "Quarantined", "step-00000025.1")
        lines = [line.split() for line in text.splitlines()]
        assert lines[0] == ["step", "wer", "size", "saved", "kept", "as", "state"]
        assert [line[0] for line in lines[1:5]] == ["200", "150", "★", "50"]
        assert lines[3][:5] == ["★", "100", "6.25", "1000", "B"] and "best" in lines[3]
        assert "last" in lines[1] and "last" in lines[2]


@driven
async def test_a_damaged_one_says_so(run: Sandbox) -> None:
    folder = run.jobs[0].run.checkpoints
    make_checkpoint(folder, 50, 7.5)
    (folder / "step-00000050" / "manifest.json").write_text("{")
    async with showing(lambda reader: CheckpointsPane(run.workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(run)))
        await seen(pilot, "50", "bad: ")
