"""What `resume` takes and refuses, and which checkpoint it calls the best."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.schedule import watch as watch_module
from orchestra.schedule.checkpoints import find, set_aside_newer
from orchestra.schedule.resume import resume
from orchestra.schedule.watch import wait_for
from orchestra.supervise import lock as lock_module
from orchestra.supervise.lock import FileLock
from orchestra.wire.checkpoints import BadCheckpointError, quarantine
from orchestra.wire.errors import ConflictError, NotFoundError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.states import ENDED, RunState
from tests.chaos.sandbox import Sandbox
from tests.wire.checkpoint_folders import make_checkpoint

CPU = "orchestra resume X --set launch.device=cpu"


def stopped(sandbox: Sandbox) -> RunFolder:
    run = sandbox.add_run().run
    end(sandbox, run)
    return run


def end(sandbox: Sandbox, run: RunFolder) -> None:
    with sandbox.registry() as registry:
        assert registry.transition(JobKey(run.id), {RunState.QUEUED}, RunState.STOPPED)


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """As another `wait` probes it."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def save(run: RunFolder, registry: Registry, direction: str, scores: dict[int, float]) -> None:
    """Checkpoints by step, with their score."""
    for step, score in scores.items():
        folder = make_checkpoint(run.checkpoints, step, score, direction=direction)
        path = f"checkpoints/{folder.name}"
        registry.add_checkpoint(run.id, step, path, score, "wer", created_at=1000.0 + step)
        registry.progress(run.id, step, {"score": score, "best_score": score})


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_best_is_found_again_after_newer_ones_were_set_aside(
    sandbox: Sandbox, direction: str
) -> None:
    run = stopped(sandbox)
    sign = 1 if direction == "min" else -1
    scores = {1: 30, 2: 20, 3: 25, 4: 10, 5: 10}  # of equals the older is the best
    with sandbox.registry() as registry:
        save(run, registry, direction, {step: sign * score for step, score in scores.items()})
        assert find(run, "best") == run.checkpoint(4)
        assert set_aside_newer(run, registry, 3) == [4, 5]
        assert find(run, "best") == run.checkpoint(2)
        row = registry.get_run(run.id)
        assert (row.best_score, row.step) == (sign * 20, 3)
        assert set_aside_newer(run, registry, 1) == [2, 3]
        assert registry.get_run(run.id).best_score == sign * 30


def test_unscored_checkpoints_have_no_best(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    make_checkpoint(run.checkpoints, 1, None)
    with pytest.raises(NotFoundError, match="no scored checkpoint"):
        find(run, "best")


def test_scores_of_an_older_version_do_not_tell_the_best(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    for step, score in ((1, 3.0), (2, 9.0)):
        folder = make_checkpoint(run.checkpoints, step, score)
        document = json.loads((folder / "manifest.json").read_text())
        if step == 1:
            del document["seal"], document["direction"]
        (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(NotFoundError, match=r"don't tell which scores are better.*name a step"):
        find(run, "best")


def test_a_step_in_quarantine_is_told(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    make_checkpoint(run.checkpoints, 1, None)
    moved = quarantine(make_checkpoint(run.checkpoints, 2, None), BadCheckpointError("torn"))
    with pytest.raises(NotFoundError, match=rf"one: 1; that of 2 failed .* lies in {moved}$"):
        find(run, "2")
    with pytest.raises(NotFoundError, match=r"steps with one: 1$"):
        find(run, "3")


def test_no_other_stands_in_for_a_best_one_that_may_be_the_bad_one(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    make_checkpoint(run.checkpoints, 1, 3.0)
    (make_checkpoint(run.checkpoints, 2, 2.0) / "manifest.json").write_text("{")
    with pytest.raises(BadCheckpointError, match=r"step-00000002.*manifest.*; name a step"):
        find(run, "best")
    assert find(run, "1") == run.checkpoint(1)


def test_a_checkpoint_that_a_kill_left_without_a_name_counts(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    make_checkpoint(run.checkpoints, 1, 3.0)
    make_checkpoint(run.checkpoints, 2, None).rename(run.checkpoints / ".replaced-step-00000002")
    with pytest.raises(NotFoundError, match="no task"):  # far enough: it is a stand-in
        resume(sandbox.workspace, run.id, start_from="1", sets=(), cpu_command=CPU)
    with sandbox.registry() as registry:
        assert set_aside_newer(run, registry, 1) == [2], "else the ranks find it again"


def test_from_takes_no_path(sandbox: Sandbox) -> None:
    run, other = stopped(sandbox), stopped(sandbox)
    for folder in (run, other):
        for step in (1, 2):
            folder.checkpoint(step).mkdir(parents=True)
    for wanted in (str(other.checkpoint(1)), "./checkpoints", "-1", ""):
        with pytest.raises(UsageError, match="best or last"):
            resume(sandbox.workspace, run.id, start_from=wanted, sets=(), cpu_command=CPU)
    assert run.checkpoint(2).is_dir()


def test_a_queued_run_is_left_alone(sandbox: Sandbox) -> None:
    run = sandbox.add_run().run
    with pytest.raises(ConflictError, match=r"is queued already.*orchestra stop"):
        resume(sandbox.workspace, run.id, start_from=None, sets=(), cpu_command=CPU)


def test_resume_waits_for_a_supervisor_that_is_just_going(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(sandbox)
    going = FileLock.try_acquire(run.job.lock)
    assert going is not None
    monkeypatch.setattr(lock_module.time, "sleep", lambda seconds: going.close())
    with pytest.raises(NotFoundError, match="no task"):  # far enough: it is a stand-in
        resume(sandbox.workspace, run.id, start_from=None, sets=(), cpu_command=CPU)


def test_those_who_wait_for_an_end_do_not_keep_each_other(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(sandbox)
    run.job.lock.touch()

    def never(seconds: float) -> None:
        raise AssertionError("nobody owns the run")

    monkeypatch.setattr(watch_module.time, "sleep", never)
    with shared(run.job.lock):
        assert wait_for(sandbox.workspace, JobKey(run.id), None).state in ENDED


def test_waiting_for_a_run_that_is_removed_is_a_sentence(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sandbox.add_run().run

    def remove(seconds: float) -> None:
        with sandbox.registry() as registry:
            registry.delete_run(run.id)

    monkeypatch.setattr(watch_module.time, "sleep", remove)
    with pytest.raises(NotFoundError, match="no run"):
        wait_for(sandbox.workspace, JobKey(run.id), None)


def test_a_run_whose_folder_is_gone_has_ended_all_the_same(sandbox: Sandbox) -> None:
    run = stopped(sandbox)
    run.path.rename(run.path.with_name(".trash-x"))
    try:
        assert wait_for(sandbox.workspace, JobKey(run.id), 0.0).state == RunState.STOPPED
    finally:
        run.path.with_name(".trash-x").rename(run.path)
