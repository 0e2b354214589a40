"""Whoever watches a job revives it, but does not go on for ever."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.schedule import watch as module
from orchestra.schedule.watch import wait_for
from orchestra.wire.errors import OrchestraError
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox


def orphan(sandbox: Sandbox) -> JobKey:
    """A running job whose supervisor was killed."""
    job = sandbox.start(sandbox.add_run(hold=True, nproc=1))
    sandbox.held(job)
    sandbox.kill_supervisor(job)
    return JobKey(job.run.id)


def test_a_dead_supervisor_is_replaced(sandbox: Sandbox) -> None:
    key = orphan(sandbox)
    sandbox.release(sandbox.jobs[0])
    assert wait_for(sandbox.workspace, key, 40.0).state == RunState.COMPLETED


def test_no_supervisor_is_started_on_a_full_disk(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = orphan(sandbox)
    monkeypatch.setattr(module, "is_disk_full", lambda folder: folder == sandbox.jobs[0].folder)
    before = sandbox.log(sandbox.jobs[0])
    with pytest.raises(OrchestraError, match=r"disk of .* is full; make room, then `orchestra up`"):
        wait_for(sandbox.workspace, key, 40.0)
    assert sandbox.log(sandbox.jobs[0]) == before


def test_conductors_that_die_at_once_are_not_started_for_ever(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = orphan(sandbox)
    started: list[Path] = []
    monkeypatch.setattr(module, "_CARE_EVERY_S", 0.0)
    monkeypatch.setattr(
        module, "ensure_conductor", lambda workspace: not started.append(workspace.root)
    )
    with pytest.raises(OrchestraError, match=r"5 of them died at once.*\.conductor\.log"):
        wait_for(sandbox.workspace, key, 40.0)
    assert len(started) == 6


FULL = """
import sys
from orchestra.supervise import __main__, supervisor
supervisor.is_disk_full = lambda folder: True
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_a_supervisor_that_fails_on_a_full_disk_says_what_to_do(sandbox: Sandbox) -> None:
    job = sandbox.add_run(nproc=1)
    shutil.rmtree(sandbox.code)
    folders = ["--runs", sandbox.workspace.runs.path, "--workspace", sandbox.workspace.root]
    command = [sys.executable, "-c", FULL, job.folder, "--kind", job.kind, *folders]
    subprocess.run(command, check=True, capture_output=True)
    assert f"make room, then `orchestra resume {job.run.id}`" in sandbox.wait_end(job).reason
