"""The run folders are the truth: what the registry knew, a rebuild finds again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from orchestra.registry import location
from orchestra.registry.rows import Demand, JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.wire.files import write_json
from orchestra.wire.folders import RunFolder, RunsFolder
from orchestra.wire.identity import ProcessIdentity, self_identity
from orchestra.wire.job import Attempt, EvaluationSpec, JobState
from orchestra.wire.labels import Labels
from orchestra.wire.queue import QueueEntry
from orchestra.wire.records import Record, RecordWriter
from orchestra.wire.states import AttemptState, RunState
from tests.wire.checkpoint_folders import make_checkpoint


def make_run(
    runs: RunsFolder, run_id: str, created_at: float, state: JobState, name: str | None = None
) -> RunFolder:
    run = runs.run(run_id)
    run.path.mkdir(parents=True)
    run.job.config.write_text("[train]\nmax_steps = 100\n[checkpoint]\nmetric = 'wer'\n")
    write_json(run.provenance, {"commit": "1234", "branch": "main", "dirty": True, "tree": "5678"})
    write_json(
        run.identity,
        {
            "version": 1,
            "id": run_id,
            "name": name or f"name-{run_id}",
            "task": "asr",
            "upstream": "fbank",
            "created_at": created_at,
        },
    )
    state.write(run.job)
    return run


def add_attempt(run: RunFolder, number: int, records: list[Record], attempt: Attempt) -> None:
    folder = run.job.attempt(number)
    folder.path.mkdir(parents=True)
    attempt.write(folder)
    writer = RecordWriter(folder.records)
    for record in records:
        writer.write(record)
    writer.close()


def train(step: int, loss: float) -> Record:
    return Record("train", step, 0.0, {"loss": loss, "eta_s": 9.0, "audio_s_per_s": 40.0})


def checkpoint(step: int, score: float) -> Record:
    path = f"checkpoints/step-{step:08d}"
    values = {"path": path, "score": score, "best_score": score, "metric": "wer"}
    return Record("checkpoint", step, 1000.0 + step, values)


@pytest.fixture
def full(runs: RunsFolder) -> RunFolder:
    """A run with a crash, two checkpoints of which one was deleted, and an evaluation."""
    run = make_run(runs, "r1", 10.0, JobState(RunState.COMPLETED, "", 2, 99.0))
    crashed = Attempt(1, "r1.1.x", 2, (), 11.0, AttemptState.CRASHED, "rank 1 died", 20.0)
    records = [train(10, 3.0), checkpoint(10, 50.0), train(20, 2.0), checkpoint(20, 40.0)]
    add_attempt(run, 1, records, crashed)
    done = Attempt(2, "r1.2.y", 2, ("GPU-1",), 21.0, AttemptState.COMPLETED, ended_at=99.0)
    add_attempt(run, 2, [train(30, 1.0)], done)
    manifest = make_checkpoint(run.checkpoints, 20, 40.0) / "manifest.json"
    os.utime(manifest, (1020.0, 1020.0))
    evaluation = run.evaluation(1)
    evaluation.path.mkdir(parents=True)
    EvaluationSpec("test-clean", "best", 90.0).write(evaluation)
    write_json(evaluation.metrics, {"metrics": {"wer": 8.5}, "checkpoint": {"step": 20}})
    return run


def test_what_a_job_asks_of_the_queue_is_found_again(runs: RunsFolder) -> None:
    run = make_run(runs, "r1", 10.0, JobState(RunState.QUEUED, "", 0, 11.0))
    with run.job.config.open("a") as config:
        config.write('[launch]\ndevice = "gpu"\nnproc = 2\ngpu_ids = ["0", "3"]\n')
    QueueEntry(priority=4, after="r0").write(run.job)
    evaluation = run.evaluation(1)
    evaluation.path.mkdir(parents=True)
    EvaluationSpec("test", "best", 12.0).write(evaluation)
    evaluation.job.config.write_text('[launch]\ndevice = "cpu"\nnproc = 2\ngpu_ids = []\n')
    QueueEntry(after="r1").write(evaluation.job)
    JobState(RunState.QUEUED, "", 0, 12.0).write(evaluation.job)
    with open_registry(runs) as registry:
        training, evaluating = registry.queued()
    assert (training.key, training.demand) == (JobKey("r1"), Demand(4, 2, ("0", "3"), "r0"))
    assert training.after_state is None
    assert (evaluating.key, evaluating.demand) == (JobKey("r1", 1), Demand(0, 0, (), "r1"))
    assert evaluating.after_state == RunState.QUEUED


def test_a_missing_registry_is_rebuilt_from_the_run_folders(
    runs: RunsFolder, full: RunFolder
) -> None:
    with open_registry(runs) as registry:
        assert registry.notes == (f"rebuilt {runs.registry} from 1 run folder",)
        row = registry.get_run("r1")
        assert (row.name, row.state, row.step, row.max_steps) == (
            "name-r1",
            RunState.COMPLETED,
            30,
            100,
        )
        assert (row.loss, row.score, row.metric, row.eta_s) == (1.0, 40.0, "wer", None)
        assert (row.git_commit, row.git_dirty, row.git_tree) == ("1234", True, "5678")
        assert (row.attempt, row.devices) == (2, ("GPU-1",))
        assert (row.started_at, row.ended_at) == (11.0, 99.0)
        assert row.best_score == 40.0
        found = [(row.step, row.created_at) for row in registry.checkpoints("r1")]
        assert found == [(20, 1020.0)]
        attempts = registry.attempts(JobKey("r1"))
        assert [attempt.state for attempt in attempts] == ["crashed", "completed"]
        (evaluation,) = registry.evaluations("r1")
        assert (evaluation.split, evaluation.metrics) == ("test-clean", {"wer": 8.5})
        assert (evaluation.state, evaluation.checkpoint_step) == (RunState.COMPLETED, 20)
        # Events carry the times at which things happened, not that of the rebuild.
        assert max(event.time_s for event in registry.events("r1")[:5]) <= 99.0
    with open_registry(runs) as registry:
        assert registry.notes == ()


def test_the_best_is_the_best_of_the_checkpoints_that_exist(runs: RunsFolder) -> None:
    run = make_run(runs, "r1", 10.0, JobState(RunState.STOPPED, "", 1, 99.0))
    add_attempt(run, 1, [checkpoint(10, 40.0)], Attempt(1, "r1.1.x", 1, (), 11.0))
    for step, score in {20: 50.0, 30: None, 40: 60.0}.items():
        make_checkpoint(run.checkpoints, step, score)
    with open_registry(runs) as registry:
        row = registry.get_run("r1")
        assert (row.score, row.best_score) == (60.0, 50.0)


def test_an_evaluation_cut_short_by_a_crash_is_no_row(runs: RunsFolder, full: RunFolder) -> None:
    """Training ranks leave spec.json alone when they die: such a row would run for ever."""
    half = full.evaluation(2)
    half.path.mkdir(parents=True)
    EvaluationSpec("test-other", "best", 90.0).write(half)
    queued = full.evaluation(3)
    queued.path.mkdir(parents=True)
    EvaluationSpec("test-other", "best", 90.0).write(queued)
    JobState(RunState.QUEUED, "", 0, 91.0).write(queued.job)
    # Its supervisor is about to tell that it is completed.
    write_json(queued.metrics, {"metrics": {"wer": 7.0}, "checkpoint": {"step": 20}})
    with open_registry(runs) as registry:
        states = {row.number: row.state for row in registry.evaluations("r1")}
        assert states == {1: RunState.COMPLETED, 3: RunState.QUEUED}
        assert registry.evaluations("r1")[-1].metrics == {"wer": 7.0}


def test_order_names_and_live_supervisors_survive(runs: RunsFolder) -> None:
    me = self_identity()
    make_run(runs, "zz", 1.0, JobState(RunState.RUNNING, "", 1, 5.0, me))
    make_run(runs, "aa", 2.0, JobState(RunState.QUEUED, "", 0, 7.0))
    make_run(runs, "mm", 3.0, JobState(RunState.QUEUED, "", 0, 6.0), name="name-aa")  # a copy
    with open_registry(runs) as registry:
        assert [row.id for row in registry.list_runs()] == ["mm", "aa", "zz"]
        assert registry.get_run("zz").supervisor_pid == me.pid
        assert registry.get_run("mm").name == "mm"
        assert registry.jobs_in({RunState.QUEUED}) == [JobKey("mm"), JobKey("aa")]


def test_broken_folders_are_named_and_left_out(runs: RunsFolder, full: RunFolder) -> None:
    broken = make_run(runs, "r2", 11.0, JobState(RunState.FAILED, "", 1, 5.0))
    broken.job.config.write_text("not toml")
    torn = make_run(runs, "r3", 12.0, JobState(RunState.FAILED, "", 1, 5.0))
    torn.identity.write_text("{")
    late = make_run(runs, "r6", 14.0, JobState(RunState.FAILED, "", 1, 5.0))
    add_attempt(late, 1, [], Attempt(1, "r6.1.x", 1, (), 4.0))
    late.job.attempt(1).attempt.write_text("{")
    (runs.path / ".new-r4").mkdir()
    write_json(runs.path / ".new-r4" / "run.json", {"created_at": 1.0})
    lost = make_run(runs, "r5", 13.0, JobState(RunState.RUNNING, "", 1, 5.0))
    lost.job.state.unlink()
    with open_registry(runs) as registry:
        assert [row.id for row in registry.list_runs()] == ["r5", "r1"]
        assert registry.get_run("r5").reason == "its state.json is missing"
        assert "from 2 run folders" in registry.notes[0]
        for run in (broken, torn, late):
            assert sum(str(run.path) in note for note in registry.notes) == 1
        assert len(registry.notes) == 4


def test_a_rebuild_equals_the_registry_it_replaces(runs: RunsFolder, full: RunFolder) -> None:
    def everything(registry: Registry) -> list[object]:
        return [
            *(dataclasses.astuple(row) for row in registry.list_runs()),
            *registry.attempts(JobKey("r1")),
            *registry.events("r1"),
        ]

    with open_registry(runs) as registry:
        before = everything(registry)
    runs.registry.unlink()
    with open_registry(runs) as registry:
        assert everything(registry) == before


def test_an_old_log_is_not_replayed_into_the_new_file(runs: RunsFolder, full: RunFolder) -> None:
    """A crash leaves registry.db-wal; if only registry.db is moved away, it must not come back."""
    with open_registry(runs) as registry:
        registry.add_event("r1", "notice", "only in the log")
        log = (runs.path / "registry.db-wal").read_bytes()
    assert b"only in the log" in log
    runs.registry.unlink()
    (runs.path / "registry.db-wal").write_bytes(log)
    with open_registry(runs) as registry:
        assert "only in the log" not in [event.text for event in registry.events("r1")]


def test_an_interrupted_rebuild_is_done_again(runs: RunsFolder, full: RunFolder) -> None:
    (runs.path / ".registry.db.new").write_bytes(b"half")
    runs.registry.touch()
    with open_registry(runs) as registry:
        assert registry.latest_run_id() == "r1"
    assert not (runs.path / ".registry.db.new").exists()
    with sqlite3.connect(runs.registry) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_git_never_sees_the_runs_folder(runs: RunsFolder) -> None:
    with open_registry(runs):
        assert Path(runs.path / ".gitignore").read_text() == "*\n"


def test_on_a_network_each_machine_sees_what_the_others_did(
    runs: RunsFolder, full: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_nfs(folder: Path) -> str | None:
        return "NFS" if folder.is_relative_to(runs.path) else None

    monkeypatch.setattr(location, "network_type", on_nfs)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    elsewhere = ProcessIdentity("another machine", "boot", 1, 2, "box2")
    with open_registry(runs) as registry:
        assert [row.id for row in registry.list_runs()] == ["r1"]
    run = make_run(runs, "r2", 11.0, JobState(RunState.RUNNING, "", 1, 5.0, elsewhere))
    with open_registry(runs) as registry:
        assert registry.get_run("r2").host == "box2"
        events = registry.events("r2")
    add_attempt(run, 1, [train(50, 0.5)], Attempt(1, "r2.1.x", 1, (), 4.0))
    JobState(RunState.FAILED, "rank 0 died", 1, 6.0, elsewhere).write(run.job)
    with open_registry(runs) as registry:
        row = registry.get_run("r2")
        assert (row.state, row.reason, row.step) == (RunState.FAILED, "rank 0 died", 50)
        assert registry.events("r2") == events
        # Its order, and a run of this machine, stay.
        assert [row.id for row in registry.list_runs()] == ["r2", "r1"]
    Labels("renamed", ("there",), "").write(run)
    with open_registry(runs) as registry:
        assert (registry.get_run("r2").name, registry.get_run("r2").tags) == ("renamed", ("there",))
    Labels(full.id).write(run)  # held here: it keeps what it has
    with open_registry(runs) as registry:
        assert registry.get_run("r2").name == "renamed"
        assert any("held by run r1" in note for note in registry.notes)
    shutil.rmtree(run.path)
    with open_registry(runs) as registry:
        assert [row.id for row in registry.list_runs()] == ["r1"]
        assert registry.notes == ()


def test_labels_and_config_are_found_again(runs: RunsFolder, full: RunFolder) -> None:
    Labels("best of all", ("a", "paper"), "look").write(full)
    with open_registry(runs) as registry:
        row = registry.get_run("r1")
        assert (row.name, row.tags, row.remark) == ("best of all", ("a", "paper"), "look")
    with sqlite3.connect(runs.registry) as connection:
        ((sha256, document),) = connection.execute("SELECT sha256, document FROM configs")
    assert sha256 == row.config_sha256
    assert json.loads(document) == {"train": {"max_steps": 100}, "checkpoint": {"metric": "wer"}}


def test_broken_labels_hide_no_run(runs: RunsFolder, full: RunFolder) -> None:
    full.labels.write_text("{")
    with open_registry(runs) as registry:
        assert (registry.get_run("r1").name, registry.get_run("r1").tags) == ("name-r1", ())
        assert any("labels.json" in note for note in registry.notes)
