from __future__ import annotations

import pytest

from orchestra.registry.rows import RunRow
from orchestra.tui.panes.evaluations import EvaluationsPane
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox
from tests.schedule.comparing import Bench
from tests.schedule.conftest import sandbox
from tests.tui.showing import driven, focus_on, seen, showing

__all__ = ["sandbox"]


@pytest.fixture
def bench(sandbox: Sandbox) -> Bench:
    bench = Bench(sandbox)
    bench.commit("first")
    bench.add("one")
    return bench


def row(bench: Bench) -> RunRow:
    with bench.sandbox.registry() as registry:
        return registry.get_run("one")


@driven
async def test_none_yet_says_how_to_get_one(bench: Bench) -> None:
    workspace = bench.sandbox.workspace
    async with showing(lambda reader: EvaluationsPane(workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(bench)))
        await seen(pilot, "no evaluation yet: `orchestra eval one --split SPLIT`")


@driven
async def test_done_and_running_ones(bench: Bench) -> None:
    job = bench.sandbox.jobs[0]
    bench.evaluate(job, "test-[/foo]", step=40, wer=5.25, accuracy=0.9, other=7.0)
    with bench.sandbox.registry() as registry:
        registry.create_evaluation("one", 2, "dev", "best", state=RunState.RUNNING)
    workspace = bench.sandbox.workspace
    async with showing(lambda reader: EvaluationsPane(workspace, reader)) as (app, pilot):
        app.shown.show(focus_on(row(bench)))
        text = await seen(pilot, "test-[/foo]", "5.25", "completed")
        lines = [line.split() for line in text.splitlines()]
        assert lines[0] == ["#", "split", "step", "wer", "accuracy", "took", "state"]
        assert lines[1][:6] == ["●", "2", "dev", "best", "-", "-"] and "running" in lines[1]
        assert lines[2][:6] == ["✓", "1", "test-[/foo]", "40", "5.25", "0.9"]
