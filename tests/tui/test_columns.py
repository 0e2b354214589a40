"""Cells fit, whatever is in them; a duration freezes at death."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestra.registry.rows import RunRow
from orchestra.schedule.board import Doing, RunView
from orchestra.tui.columns import COLUMNS, GAP, MARKS, Setting, cells_of, choose, titles_of
from orchestra.wire.states import RunState

ROW = RunRow(
    id="h7k2q0ab",
    name="asr-wavlm-h7k2",
    state=RunState.FAILED,
    reason="rank 1 was killed by SIGKILL",
    task="asr",
    upstream="wavlm",
    created_at=1000.0,
    started_at=1100.0,
    ended_at=1160.0,
    step=120,
    max_steps=4000,
    loss=1.25,
    audio_s_per_s=80.0,
    eta_s=60.0,
    score=7.5,
    best_score=7.25,
    metric="wer",
    attempt=3,
    supervisor_pid=None,
    host="box",
    devices=(),
    git_commit=None,
    git_branch=None,
    git_dirty=None,
    git_tree=None,
    config_sha256="0",
)
VIEW = RunView(ROW, Doing.FAILED, ROW.reason, ROW.step, None)


def cell(view: RunView, key: str, now_s: float) -> str:
    (column,) = [column for column in COLUMNS if column.key == key]
    return column.cell(view, Setting(now_s))


@given(st.integers(1, 400), st.text(max_size=200))
def test_a_row_is_never_wider_than_the_table(width: int, name: str) -> None:
    view = replace(VIEW, row=replace(ROW, name=name, reason=name), note=name)
    chosen = choose(COLUMNS, width)
    cells = cells_of(view, chosen, Setting(2000.0))
    titles = titles_of(chosen, "step", descending=True)
    rooms = [room for _, room in chosen]
    assert list(map(cell_len, cells)) == rooms == list(map(cell_len, titles))
    assert len(chosen) == 1 or MARKS + sum(room + GAP for room in rooms) <= width
    assert not any(unicodedata.category(letter) == "Cc" for cell in cells for letter in cell)


def test_the_state_is_the_last_column_to_go() -> None:
    assert [column.key for column, _ in choose(COLUMNS, 10)] == ["state"]
    assert {column.key for column, _ in choose(COLUMNS, 200)} == {column.key for column in COLUMNS}


def test_a_duration_freezes_at_death() -> None:
    assert cell(VIEW, "took", 2000.0) == cell(VIEW, "took", 9_000_000.0) == "1m00s"
    running = replace(VIEW, row=replace(ROW, state=RunState.RUNNING, ended_at=None))
    assert cell(running, "took", 1200.0) == "1m40s"
    assert cell(running, "took", 1300.0) == "3m20s"


def test_an_ended_run_has_neither_time_left_nor_gpus() -> None:
    ended = replace(VIEW, row=replace(ROW, devices=("GPU-a",)))
    assert cell(ended, "eta", 0.0) == cell(ended, "gpus", 0.0) == ""
    running = replace(ended, row=replace(ended.row, state=RunState.RUNNING))
    assert cell(running, "eta", 0.0) == "1m00s"
    assert cell(running, "gpus", 0.0) == "1 GPU"


def test_long_steps_are_told_in_thousands_and_gpus_in_ranges() -> None:
    long = replace(VIEW, step=120_400, row=replace(ROW, max_steps=1_000_000))
    assert cell(long, "step", 0.0) == "120k/1M"
    assert cell(VIEW, "step", 0.0) == "120/4000"
    uuids = tuple(f"GPU-{number}" for number in range(8))
    held = replace(VIEW, row=replace(ROW, state=RunState.RUNNING, devices=(*uuids[:4], uuids[6])))
    (column,) = [column for column in COLUMNS if column.key == "gpus"]
    known = {uuid: number for number, uuid in enumerate(uuids)}
    assert column.cell(held, Setting(0.0, gpus=known)) == "0-3,6"
