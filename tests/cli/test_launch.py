"""A dispatch that fails: the job has a conductor all the same, or is taken back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from orchestra.cli.interrupts import Interrupts
from orchestra.cli.launch import launch
from orchestra.registry.rows import JobKey
from orchestra.schedule.withdraw import forget
from orchestra.supervise import __main__ as supervisor
from orchestra.wire.errors import ConflictError, NotFoundError, WaitTimeoutError
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.chaos.conftest import sandbox
from tests.chaos.sandbox import Sandbox, conductor

__all__ = ["sandbox"]


@contextlib.contextmanager
def kept_lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As while another dispatcher hangs."""

    def dispatch(workspace: Workspace) -> list[JobKey]:
        raise WaitTimeoutError("another orchestra process has kept the lock")

    with monkeypatch.context() as patch:
        patch.setattr("orchestra.schedule.begin.dispatch", dispatch)
        patch.setattr("orchestra.schedule.dispatch.dispatch", dispatch)
        yield


def test_the_conductor_starts_what_could_not_be_dispatched(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(nproc=1)
    with (
        kept_lock(monkeypatch),
        Interrupts() as interrupts,
        pytest.raises(WaitTimeoutError, match="has kept the lock"),
    ):
        launch(sandbox.workspace, JobKey(job.run.id), interrupts, detach=True, quiet=True)
    assert sandbox.wait_end(job).state == RunState.COMPLETED


def test_without_a_queue_it_is_taken_back(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sandbox.add_run(nproc=1)
    monkeypatch.setattr("orchestra.schedule.remove.drop_refs", lambda *names: None)
    key = JobKey(job.run.id)
    with (
        kept_lock(monkeypatch),
        Interrupts() as interrupts,
        pytest.raises(ConflictError, match="--no-queue: another orchestra process has kept"),
    ):
        launch(sandbox.workspace, key, interrupts, detach=True, quiet=True, withdraw=forget)
    sandbox.jobs.remove(job)
    assert not job.folder.exists()
    with sandbox.registry() as registry, pytest.raises(NotFoundError):
        registry.get_run(key.run_id)
    assert conductor(sandbox.workspace.runs) is None


def test_an_ending_supervisor_leaves_a_conductor(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, waiting = sandbox.add_run(nproc=1), sandbox.add_run(nproc=1)
    sandbox.stop(ended)
    monkeypatch.chdir(sandbox.workspace.root)
    workspace = sandbox.workspace
    folders = ["--runs", str(workspace.runs.path), "--workspace", str(workspace.root)]
    with kept_lock(monkeypatch):
        code = supervisor.main([str(ended.folder), "--kind", "train", *folders])
    assert code == WaitTimeoutError.exit_code
    assert sandbox.wait_end(waiting).state == RunState.COMPLETED
