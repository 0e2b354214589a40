"""The demo workspace shows what it is made to show."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest

from orchestra.registry.metrics import MetricStore
from orchestra.registry.store import open_registry
from orchestra.schedule.board import Board, Doing
from tests.tui.demo import RUNS, demo, many


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm to beat in")
def test_runs_in_every_state_are_alive(tmp_path: Path) -> None:
    with demo(tmp_path / "demo") as made:
        runs = made.workspace.runs
        with open_registry(runs) as registry, Board(runs) as board:
            views = {view.row.name: view for view in board.view(registry, registry.list_runs())}
            made.beat("u4kf", 18_000)
            later = board.view(registry, [registry.get_run("u4kf")])[0]
        assert len(views) == len(RUNS)
        seen = {view.doing for view in views.values()}
        assert seen >= set(Doing) - {Doing.STARTING, Doing.STOPPING, Doing.ELSEWHERE}
        assert (views["wavlm-lr-1e-4"].step, later.step) == (17_900, 18_000)
        assert later.silent_s is not None and later.silent_s < views["fbank-baseline"].row.step
        resumed = MetricStore(runs.run("t6ze").metrics).series("train/loss")
        assert {point.attempt for point in resumed} == {1, 2}
        assert any(point.superseded for point in resumed), "the first attempt's last steps"
        broken = MetricStore(runs.run("q8wn").metrics).series("train/loss")
        assert math.isnan(broken[-1].value) and math.isfinite(broken[0].value)


def test_many_rows_are_made_at_once(tmp_path: Path) -> None:
    with open_registry(many(tmp_path / "many", 5000, now_s=time.time()).runs) as registry:
        newest, *_, oldest = registry.list_runs()
    assert (newest.name, oldest.name) == ("asr-004999", "asr-000000")
    assert newest.created_at > oldest.created_at
