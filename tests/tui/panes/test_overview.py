"""The summary of a run: what a person opens it for stands there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.tui.panes.overview import OverviewPane
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.tui.demo import demo
from tests.tui.showing import driven, focus_on, seen, showing


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("overview") / "demo"
    with demo(folder, live=False, now_s=time.time()) as made:
        yield made.workspace


@pytest.mark.parametrize(
    ("run_id", "words"),
    [
        (
            "t6ze",
            ["✗ 1 crashed steps 0-9300", "│ rank 2 hung in backward", "└ restart 1 of 3",
             "● 2 running", "Resources", "Checkpoints"],
        ),
        ("p2xa", ["failed: out of memory on rank 0", "with the largest batches"]),
        ("k3v9", ["Evaluations", "test-other cer"]),
        ("z5un", ["none yet"]),
    ],
)  # fmt: skip
@driven
async def test_why_attempts_resources_scores(
    shown: Workspace, run_id: str, words: list[str]
) -> None:
    with open_registry(shown.runs) as registry:
        row = registry.get_run(run_id)
    async with showing(lambda reader: OverviewPane(shown, reader), (80, 40)) as (app, pilot):
        app.shown.show(focus_on(row))
        text = await seen(pilot, *words)
        if run_id == "t6ze":  # the attempts to scale: the second began where the first had ended
            (line,) = [line for line in text.splitlines() if "━" in line]
            assert line.strip().startswith("1━") and "✗2━" in line and line.endswith("●")


@driven
async def test_a_member_shows_its_parent_run_as_a_whole(workspace: Workspace) -> None:
    ends = {"a1": RunState.COMPLETED, "a2": RunState.FAILED, "a3": RunState.QUEUED}
    with open_registry(workspace.runs) as registry:
        for number, run_id in enumerate(ends, 1):
            made = NewRun(run_id, f"folds.{number}", "er", "fbank", 1.0, 100, "c" * 64)
            registry.create_run(replace(made, parent="pa11", member=f"task.fold={number}"))
            registry.transition(JobKey(run_id), {RunState.QUEUED}, ends[run_id])
        row = registry.get_run("a2")
    async with showing(lambda reader: OverviewPane(workspace, reader), (80, 40)) as (app, pilot):
        app.shown.show(focus_on(row))
        told = "folds  pa11  failed: 1 completed, 1 failed, 1 queued"
        await seen(pilot, "task.fold=2", "Parent run", told)
