"""Weights of a run that is not done yet: promised when asked for, taken when it is completed."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from orchestra.config.frozen import load
from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule import dispatch as dispatching
from orchestra.schedule.dispatch import dispatch
from orchestra.schedule.evaluate import submit_evaluation
from orchestra.schedule.remove import remove_run
from orchestra.schedule.resume import resume
from orchestra.schedule.submission import Submission
from orchestra.schedule.submit import Submitted, plan, staged
from orchestra.supervise.lock import FileLock
from orchestra.wire import weights
from orchestra.wire.errors import ConflictError, NotFoundError, UsageError
from orchestra.wire.folders import Job, RunFolder
from orchestra.wire.job import EvaluationSpec, JobState
from orchestra.wire.queue import QueueEntry
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace
from tests.schedule.test_initial import CPU, add_checkpoint, workspace

__all__ = ["workspace"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that would have got a supervisor: what is done before is looked at here."""
    jobs: list[Job] = []

    def note(workspace: Workspace, job: Job, lock: FileLock, leases: dict[str, int]) -> None:
        jobs.append(job)

    monkeypatch.setattr(dispatching, "_start_supervisor", note)
    return jobs


def submit(workspace: Workspace, *sets: str, **more: Any) -> Submitted:
    with staged(workspace, Submission("example", given=CPU, sets=sets, **more)) as run:
        return run.commit()


@pytest.fixture
def source(workspace: Workspace) -> RunFolder:
    """A run that has only begun."""
    return submit(workspace, name="source").folder


def complete(workspace: Workspace, run: RunFolder) -> None:
    add_checkpoint(run, 10, 9.0)
    add_checkpoint(run, 20, 8.0)
    end(workspace, run, RunState.COMPLETED)


def end(workspace: Workspace, run: RunFolder, state: RunState) -> None:
    JobState(state, "", 1, 5.0).write(run.job)
    with open_registry(workspace.runs) as registry:
        registry.transition(JobKey(run.id), RunState, state)


def test_the_weights_come_when_the_other_run_is_completed(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    asked = {"init_from": "source", "after": "source", "priority": 2}
    run = submit(workspace, 'init.parts=["head"]', **asked).folder
    promised = QueueEntry(2, source.id, f"{source.id}:best")
    assert QueueEntry.read(run.job) == promised
    assert load(run.job.config)["init"]["sha256"] == "" and not run.init.exists()
    assert dispatch(workspace) == [JobKey(source.id)]
    assert started == [source.job] and QueueEntry.read(run.job) == promised
    complete(workspace, source)
    started.clear()
    assert dispatch(workspace) == [JobKey(run.id)]
    assert load(run.job.config)["init"] == {
        "source": f"{source.id}:best",
        "folder": str(source.checkpoint(10)),
        "sha256": weights.read_manifest(source.checkpoint(10)).sha256,
        "parts": ["head"],
    }
    weights.verify(run.init)
    assert QueueEntry.read(run.job) == QueueEntry(2)
    assert load(run.path / "config.1.toml")["init"]["sha256"] == "", "the old one is kept"
    with open_registry(workspace.runs) as registry:
        changed = [event.text for event in registry.events(run.id) if event.kind == "config"]
    assert len(changed) == 1 and "init.sha256" in changed[0]


def test_a_dispatcher_that_died_half_way_harms_no_checkpoint(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    run = submit(workspace, init_from="source:last", after="source").folder
    complete(workspace, source)
    model = source.checkpoint(20) / "model.safetensors"
    run.init.mkdir()
    (run.init / "model.safetensors").hardlink_to(model)
    inode, data = model.stat().st_ino, model.read_bytes()
    assert dispatch(workspace) == [JobKey(run.id)]
    weights.verify(run.init)
    assert (model.stat().st_ino, model.read_bytes()) == (inode, data)


@pytest.mark.parametrize("harm", ["torn", "gone"])
def test_weights_that_can_not_be_used_fail_the_job_alone(
    workspace: Workspace, source: RunFolder, started: list[Job], harm: str
) -> None:
    broken = submit(workspace, init_from="source:last", after="source").folder
    sound = submit(workspace, init_from="source:best", after="source").folder
    complete(workspace, source)
    if harm == "torn":
        (source.checkpoint(20) / "model.safetensors").write_bytes(b"torn")
        broken_id, sound_id, what = broken.id, sound.id, "last"
    else:
        shutil.rmtree(source.checkpoint(10))
        shutil.rmtree(source.checkpoint(20))
        broken_id, sound_id, what = broken.id, None, "last"
    assert dispatch(workspace) == ([JobKey(sound_id)] if sound_id else [])
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(broken_id)
    assert row.state == RunState.FAILED
    assert f"--init-from {source.id}:{what}: " in row.reason
    assert JobState.read(broken.job).state == RunState.FAILED


def test_of_a_completed_run_the_weights_are_taken_at_once(
    workspace: Workspace, source: RunFolder
) -> None:
    complete(workspace, source)
    run = submit(workspace, init_from="source", after="source").folder
    assert QueueEntry.read(run.job) == QueueEntry(0, source.id)
    weights.verify(run.init)


def test_what_can_not_be_promised_is_refused(workspace: Workspace, source: RunFolder) -> None:
    other = submit(workspace, name="other").run_id
    hint = f"none yet; the run is queued: with --after {other} this one waits"
    for after in (None, "source"):
        with pytest.raises(NotFoundError, match=hint):
            submit(workspace, init_from="other", after=after)
    with pytest.raises(UsageError, match="give best, last or a step"):
        submit(workspace, init_from="source:newest", after="source")
    with pytest.raises(NotFoundError, match="no run 'nobody'"):
        submit(workspace, after="nobody")


def test_the_plan_tells_what_is_waited_for(workspace: Workspace, source: RunFolder) -> None:
    made = plan(workspace, Submission("example", given=CPU, init_from="source", after="source"))
    found = {finding.what: finding.detail for finding in made.findings}
    assert found["after"] == f"run {source.id} is completed"
    assert found["init"] == f"{source.id}:best of that time"


def evaluate(workspace: Workspace, run: RunFolder, **more: Any) -> JobKey:
    asked = {"split": "test", "checkpoint": None, "cpu_command": "x", **more}
    return submit_evaluation(workspace, run.id, given=CPU, **asked)


def test_an_evaluation_of_a_run_that_is_not_done(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    with pytest.raises(NotFoundError, match=f"no checkpoint yet: --after {source.id} waits"):
        evaluate(workspace, source)
    with pytest.raises(NotFoundError, match="no checkpoint '20'"):
        evaluate(workspace, source, checkpoint="20", after=source.id)
    key = evaluate(workspace, source, after=source.id)
    assert dispatch(workspace) == [JobKey(source.id)]
    complete(workspace, source)
    assert dispatch(workspace) == [key]
    assert EvaluationSpec.read(source.evaluation(1)).checkpoint == "best"


def test_an_evaluation_with_weights_of_a_run_that_is_not_done(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    judge = submit(workspace, name="judge").folder
    end(workspace, judge, RunState.STOPPED)
    key = evaluate(workspace, judge, init_from="source:last", after="source")
    complete(workspace, source)
    assert dispatch(workspace) == [key]
    spec = EvaluationSpec.read(judge.evaluation(1))
    folder = source.checkpoint(20)
    assert (spec.checkpoint, spec.source) == (str(folder), "source:last")
    assert spec.sha256 == weights.read_manifest(folder).sha256


def test_the_promise_names_the_run_by_its_id(workspace: Workspace, source: RunFolder) -> None:
    """@last means another one later."""
    run = submit(workspace, init_from="@last", after="@last").folder
    document = json.loads(run.job.queue.read_text())
    assert document["after"] == source.id and document["init_from"] == f"{source.id}:best"


def go_on(workspace: Workspace, run: RunFolder) -> tuple[str, ...]:
    return resume(workspace, run.id, start_from=None, sets=(), cpu_command="").notes


def test_a_run_that_another_waits_for_is_not_removed(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    run = submit(workspace, after="source").folder
    promised = submit(workspace, init_from="source", after="source").folder
    end(workspace, source, RunState.FAILED)
    for waiting in (run, promised):
        with pytest.raises(ConflictError, match=f"for run {source.id}: .*`orchestra stop"):
            remove_run(workspace, source.id)
        assert source.path.is_dir()
        end(workspace, waiting, RunState.STOPPED)
    remove_run(workspace, source.id)
    assert f"run {source.id} was removed; it starts without waiting" in go_on(workspace, run)
    with pytest.raises(ConflictError, match=f"was to start from {source.id}:best, and run"):
        go_on(workspace, promised)
    assert JobState.read(promised.job).state == RunState.STOPPED
    assert dispatch(workspace) == [JobKey(run.id)]


def test_a_stopped_run_still_waits_for_one_that_is_there(
    workspace: Workspace, source: RunFolder, started: list[Job]
) -> None:
    run = submit(workspace, after="source").folder
    end(workspace, run, RunState.STOPPED)
    go_on(workspace, run)
    assert QueueEntry.read(run.job) == QueueEntry(0, source.id)
    assert dispatch(workspace) == [JobKey(source.id)]
