"""What may change when a run is resumed or evaluated, and what is refused before it does harm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.changes import BEFORE_A_CHECKPOINT, EVALUATE, RESUME, refused
from orchestra.schedule.describe import describe
from orchestra.schedule.evaluate import submit_evaluation
from orchestra.schedule.resume import resume
from orchestra.schedule.submission import Given, Submission
from orchestra.schedule.submit import staged
from orchestra.wire.errors import ConflictError, NotFoundError, UsageError
from orchestra.wire.folders import RunFolder
from orchestra.wire.job import EvaluationSpec, JobState, config_sha256
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace, init_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A workspace and a run of the example task that has trained 30 of 30 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ORCHESTRA_RUNS_DIR", raising=False)
        workspace = init_workspace(tmp_path_factory.mktemp("changes") / "workspace")
    subprocess.run(["git", "init", "-q", workspace.root], check=True)
    submission = Submission(
        "example", given=(Given("launch.device", "cpu", "--cpu"),), sets=("train.max_steps=30",)
    )
    with staged(workspace, submission) as stage:
        return workspace, stage.commit().key.run_id


@pytest.fixture
def run(made: tuple[Workspace, str]) -> RunFolder:
    """That run, just completed, with checkpoints of steps 10 and 30."""
    workspace, run_id = made
    run = workspace.runs.run(run_id)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    for step in (10, 30):
        run.checkpoint(step).mkdir(parents=True)
    for first in sorted(run.path.glob("config.1.toml")):
        first.replace(run.job.config)
    end(workspace, run, RunState.COMPLETED)
    return run


@pytest.fixture
def workspace(made: tuple[Workspace, str]) -> Workspace:
    return made[0]


def end(workspace: Workspace, run: RunFolder, state: RunState, reason: str = "") -> None:
    JobState(state, reason, 1, 0.0).write(run.job)
    with open_registry(workspace.runs) as registry:
        registry.transition(JobKey(run.id), set(RunState), state, reason=reason)


def go_on(workspace: Workspace, run: RunFolder, *sets: str, start_from: str | None = None) -> None:
    resume(workspace, run.id, start_from=start_from, sets=sets, cpu_command="")


def test_a_key_stands_for_all_below_it_and_for_no_other() -> None:
    keys = [
        "train.max_steps",
        "launch.nproc",
        "launch.threads",
        "launcher",
        "optim.lr",
        "optim.kind",
        "batch.seconds",
    ]
    assert refused(keys, RESUME) == ["launch.threads", "launcher", "optim.kind", "batch.seconds"]
    assert refused(keys, BEFORE_A_CHECKPOINT) == ["launcher", "optim.kind"]
    assert refused(["data.train", "batch.eval_seconds", "seed"], EVALUATE) == ["seed"]


def test_what_a_checkpoint_is_can_not_change_and_all_is_named_at_once(
    workspace: Workspace, run: RunFolder
) -> None:
    before = run.job.config.read_bytes()
    sets = ("seed=77", "upstream.name=other", "data.train=x", "batch.seconds=3.5", "optim.lr=0.5")
    with pytest.raises(UsageError) as error:
        go_on(workspace, run, *sets, "train.max_steps=40")
    for text in sets:
        key = text.partition("=")[0]
        assert (f"--set: {key}: a run that is resumed keeps it" in str(error.value)) == (
            key != "optim.lr"
        )
    assert "micro_batches" not in str(error.value), "only what the user wrote"
    assert run.job.config.read_bytes() == before
    assert JobState.read(run.job).state == RunState.COMPLETED


def test_what_may_change_is_applied(workspace: Workspace, run: RunFolder) -> None:
    go_on(workspace, run, "train.max_steps=40", "optim.lr=0.5", "seed=" + seed(run))
    assert b"max_steps = 40" in run.job.config.read_bytes()
    with open_registry(workspace.runs) as registry:
        assert registry.get_run(run.id).config_sha256 == config_sha256(run.job)
        assert describe(workspace, registry, run.id)["config_sha256"] == config_sha256(run.job)
    assert JobState.read(run.job).state == RunState.QUEUED


def test_a_change_is_told_with_both_values_and_shown_at_once(
    workspace: Workspace, run: RunFolder
) -> None:
    with open_registry(workspace.runs) as registry:
        registry.progress(run.id, 30, {"max_steps": 30, "loss": 1.0, "eta_s": 0.0})
        more = ("train.max_steps=40", "train.max_hours=2.5")
        resumed = resume(workspace, run.id, start_from="10", sets=more, cpu_command="")
        row = registry.get_run(run.id)
    told = next(note for note in resumed.notes if note.startswith("config changed: "))
    assert "train.max_steps 30 -> 40" in told and "train.max_hours unset -> 2.5" in told
    assert (row.step, row.max_steps, row.loss, row.eta_s) == (10, 40, None, None)


def test_what_ended_a_run_is_the_limit_to_raise(workspace: Workspace, run: RunFolder) -> None:
    stopping = ("train.max_steps=40", "train.stopping.patience=3")
    go_on(workspace, run, *stopping)
    end(workspace, run, RunState.COMPLETED, "early stopping: enough (train.stopping.patience)")
    advice = rf"enough \(train.*orchestra resume {run.id} --set train.stopping.patience=N`"
    with pytest.raises(ConflictError, match=advice):
        go_on(workspace, run)


def test_without_a_checkpoint_the_batch_may_change(workspace: Workspace, run: RunFolder) -> None:
    shutil.rmtree(run.checkpoints)
    end(workspace, run, RunState.FAILED)
    go_on(workspace, run, "batch.max_micro_seconds=2.5")
    assert b"max_micro_seconds = 2.5" in run.job.config.read_bytes()


@pytest.mark.parametrize("steps", ["29", "12"])
def test_fewer_steps_than_were_taken_are_refused(
    workspace: Workspace, run: RunFolder, steps: str
) -> None:
    with pytest.raises(UsageError, match=rf"max_steps: is {steps}, but .* from step 30"):
        go_on(workspace, run, f"train.max_steps={steps}")
    go_on(workspace, run, f"train.max_steps={steps}", start_from="10")


def test_a_completed_run_needs_more_steps(workspace: Workspace, run: RunFolder) -> None:
    for sets in ((), ("optim.lr=0.5",), ("train.max_steps=30",)):
        with pytest.raises(ConflictError, match=r"step 30 \(train\.max_steps = 30\)"):
            go_on(workspace, run, *sets)
    end(workspace, run, RunState.STOPPED)
    go_on(workspace, run)  # its test splits may be left


def test_a_run_that_stopped_early_needs_more_patience(workspace: Workspace, run: RunFolder) -> None:
    text = run.job.config.read_text()
    assert "max_steps = 30" in text
    stopping = "stopping = {patience = 3, min_delta = 0.0}"
    text = text.replace("max_steps = 30", f"max_steps = 90\n{stopping}")
    run.job.config.write_text(text)
    with pytest.raises(ConflictError, match=r"max_steps = 90 and train.stopping.patience = 3"):
        go_on(workspace, run)
    go_on(workspace, run, "train.stopping.patience=9")


def test_an_evaluation_keeps_what_was_trained(workspace: Workspace, run: RunFolder) -> None:
    def evaluate(*sets: str) -> None:
        submit_evaluation(
            workspace, run.id, split="test", checkpoint="10", sets=sets, cpu_command=""
        )

    with pytest.raises(UsageError, match=r"2 errors:\s+.*seed: .*keeps it.*\s+.*optim\.lr: "):
        evaluate("seed=77", "optim.lr=0.5", "batch.eval_seconds=3.5")
    evaluate("batch.eval_seconds=3.5", "train.precision=bf16")


def test_a_checkpoint_is_recorded_in_one_form_whatever_it_was_called(
    workspace: Workspace, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_for(checkpoint: str) -> str:
        key = submit_evaluation(
            workspace, run.id, split="test", checkpoint=checkpoint, cpu_command=""
        )
        assert key.evaluation is not None
        return EvaluationSpec.read(run.evaluation(key.evaluation)).checkpoint

    monkeypatch.chdir(run.path.parent)
    inside = "checkpoints/step-00000010"
    (run.path / inside / "manifest.json").touch()
    for name in ("10", inside, f"./{run.id}/{inside}", str(run.path / inside)):
        assert asked_for(name) == inside
    for folder in (tmp_path, run.checkpoints):
        with pytest.raises(NotFoundError, match=f"{folder} is no checkpoint: it has no manifest"):
            asked_for(str(folder))
    (tmp_path / "manifest.json").touch()
    assert asked_for(str(tmp_path)) == str(tmp_path)


def seed(run: RunFolder) -> str:
    lines = run.job.config.read_text().splitlines()
    return next(line for line in lines if line.startswith("seed = ")).removeprefix("seed = ")
