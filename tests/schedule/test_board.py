"""What a run is said to be doing, of real supervisors and real heartbeat pages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule.board import Board, Doing, RunView, lasted_s, live_json
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Phase, pages_folder
from orchestra.wire.identity import self_identity
from orchestra.wire.job import JobState
from orchestra.wire.stall import StallNotice, remove_stall, write_stall
from orchestra.wire.states import ENDED, RunState
from tests.chaos.sandbox import Sandbox, wait_for


@pytest.fixture
def board(sandbox: Sandbox) -> Iterator[Board]:
    with Board(sandbox.workspace.runs) as board:
        yield board


def look(board: Board, sandbox: Sandbox, job: Job) -> RunView:
    with sandbox.registry() as registry:
        (view,) = board.view(registry, [registry.get_run(job.run.id)])
    return view


def test_a_run_works_stalls_loses_its_supervisor_and_ends(sandbox: Sandbox, board: Board) -> None:
    job = sandbox.add_run(hold=True)
    assert look(board, sandbox, job).doing is Doing.QUEUED
    sandbox.start(job)
    attempt = sandbox.held(job)
    wait_for("the registry knows", lambda: look(board, sandbox, job).doing is Doing.WORKING)
    working = look(board, sandbox, job)
    assert working.silent_s is not None and 0 <= working.silent_s < 60
    assert working.step == 6  # of the pages; the registry is told every now and then

    with sandbox.registry() as registry:
        told = live_json(sandbox.workspace, registry.list_runs())[job.run.id]
    assert (told["doing"], told["step"]) == ("working", 6) and told["silent_s"] >= 0

    now_s = time.monotonic()
    folder = pages_folder(attempt.tag)
    planned = "restart 2 of 3 from step 5"
    write_stall(folder, StallNotice(1, 9, Phase.FORWARD, 6, "", now_s - 70, now_s + 50, planned))
    stalled = look(board, sandbox, job)
    assert stalled.doing is Doing.STALLED
    assert "rank 1 is silent in forward at step 6 for 70 s" in stalled.note
    assert planned in stalled.note
    remove_stall(folder)
    assert look(board, sandbox, job).doing is Doing.WORKING

    sandbox.kill_supervisor(job)
    wait_for("it is seen", lambda: look(board, sandbox, job).doing is Doing.ORPHANED)
    assert "`orchestra up` revives it" in look(board, sandbox, job).note


def test_a_run_of_another_machine_lives_elsewhere(sandbox: Sandbox, board: Board) -> None:
    job = sandbox.add_run()
    other = replace(self_identity(), machine_id="another machine", host="annex")
    JobState(RunState.RUNNING, "", 1, time.time(), supervisor=other).write(job)
    with sandbox.registry() as registry:
        for state in (RunState.STARTING, RunState.RUNNING):
            registry.transition(
                JobKey(job.run.id), RunState, state, supervisor=other if state else None
            )
    view = look(board, sandbox, job)
    assert (view.doing, view.note) == (Doing.ELSEWHERE, "lives on host annex")
    assert view.silent_s is None


def test_how_long_it_lasted_stands_still_once_it_has_ended(sandbox: Sandbox, board: Board) -> None:
    job = sandbox.start(sandbox.add_run())
    sandbox.wait_end(job)
    row = look(board, sandbox, job).row
    assert row.state in ENDED
    lasted = lasted_s(row, time.time())
    assert lasted is not None and lasted == lasted_s(row, time.time() + 1e6)
    running = replace(row, state=RunState.RUNNING, ended_at=None)
    assert lasted_s(running, (row.started_at or 0) + 7) == 7
