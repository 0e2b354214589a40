"""Where everything of a run lies. Paths only; nothing here creates, reads or writes a file.

    runs/<run id>/                   a job folder (see Job) of kind "train", plus
        run.json                     identity: id, name, task, upstream, created_at, argv,
                                     clone_of, version
        labels.json                  name, tags and note that the user gave it (wire/labels.py)
        provenance.json, patch.diff  commit, branch, dirty, tree, packages, hardware
        metrics.db                   the run's own metric store, written by its supervisor
        checkpoints/step-00001000/   committed checkpoints (see wire/checkpoints.py)
        checkpoints/.quarantine/     those that failed verification
        checkpoints/.superseded/     those that `resume --from` went back behind
        capsules/step-00000124/      what a step had at hand that went wrong (see wire/capsules.py)
        evaluations/0001/            job folders of kind "evaluate", plus spec.json,
                                     predictions.jsonl, metrics.json
        init/                        own copy of the weights it starts from (see wire/weights.py)
        export/                      its best weights, where checkpoint.export_best asks for them
    runs/.snapshots/<tree>/          code, laid out once per git tree
    runs/.features/                  hidden states that runs share (see wire/features.py)
    runs/registry.db                 the index

A job folder holds what one supervisor owns:
        config.toml                  the frozen config (an evaluation has its own copy)
        origins.json                 where each value came from
        queue.json                   priority and what it waits for (wire/queue.py)
        environment.json             the allow-listed variables of the shell that asked for it
        state.json                   state, reason, attempt, supervisor identity
        supervisor.lock              flock held by the supervisor for its whole life
        supervisor.log
        stop.json                    the stop flag, polled by rank 0 once per step
        attempts/0001/               one launch: attempt.json, records.jsonl, failures.json,
                                     result.json, logs/agent.log, logs/rank0.log,
                                     logs/rank0.stacks (if it hung), tensorboard/
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestra.wire.checkpoints import step_folder

JobKind = Literal["train", "evaluate"]


@dataclass(frozen=True)
class Job:
    """A folder that one supervisor owns: a training run or one evaluation of it."""

    kind: JobKind
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def origins(self) -> Path:
        return self.folder / "origins.json"

    @property
    def queue(self) -> Path:
        return self.folder / "queue.json"

    @property
    def environment(self) -> Path:
        return self.folder / "environment.json"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def lock(self) -> Path:
        return self.folder / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def stop(self) -> Path:
        return self.folder / "stop.json"

    @property
    def run(self) -> RunFolder:
        """The run this job belongs to."""
        return RunFolder(self.folder if self.kind == "train" else self.folder.parent.parent)

    def attempt(self, number: int) -> AttemptFolder:
        return AttemptFolder(self.folder / "attempts" / f"{number:04d}")

    def attempts(self) -> list[AttemptFolder]:
        """The attempts on disk, oldest first."""
        return [AttemptFolder(path) for path in _numbered(self.folder / "attempts")]


@dataclass(frozen=True)
class AttemptFolder:
    """One launch."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def attempt(self) -> Path:
        return self.path / "attempt.json"

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def failures(self) -> Path:
        return self.path / "failures.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def agent_log(self) -> Path:
        return self.logs / "agent.log"

    def rank_log(self, rank: int) -> Path:
        return self.logs / f"rank{rank}.log"

    def rank_stacks(self, rank: int) -> Path:
        """Python stacks of all its threads, dumped on the supervisor's signal."""
        return self.logs / f"rank{rank}.stacks"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"


@dataclass(frozen=True)
class RunFolder:
    """One run."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def job(self) -> Job:
        return Job("train", self.path)

    @property
    def identity(self) -> Path:
        return self.path / "run.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def learnt(self) -> Path:
        """What the task learnt from the training split (orchestra.tasks.Task.learn)."""
        return self.path / "learnt.json"

    @property
    def provenance(self) -> Path:
        return self.path / "provenance.json"

    @property
    def patch(self) -> Path:
        return self.path / "patch.diff"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.db"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return step_folder(self.checkpoints, step)

    @property
    def capsules(self) -> Path:
        return self.path / "capsules"

    @property
    def init(self) -> Path:
        return self.path / "init"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    def evaluation(self, number: int) -> EvaluationFolder:
        return EvaluationFolder(self.evaluations / f"{number:04d}")

    def all_evaluations(self) -> list[EvaluationFolder]:
        """The evaluations on disk, oldest first."""
        return [EvaluationFolder(path) for path in _numbered(self.evaluations)]


@dataclass(frozen=True)
class EvaluationFolder:
    """One evaluation of one checkpoint on one split."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def job(self) -> Job:
        return Job("evaluate", self.path)

    @property
    def spec(self) -> Path:
        """{"version", "split", "checkpoint", "created_at", "origin"}: what was asked for."""
        return self.path / "spec.json"

    @property
    def predictions(self) -> Path:
        """One record per utterance, ordered by id."""
        return self.path / "predictions.jsonl"

    @property
    def metrics(self) -> Path:
        """The result; its presence is the commit of the evaluation."""
        return self.path / "metrics.json"


@dataclass(frozen=True)
class RunsFolder:
    """The folder that holds all runs of a workspace."""

    path: Path

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.path / run_id)

    def snapshot(self, tree: str) -> Path:
        return self.path / ".snapshots" / tree

    @property
    def registry(self) -> Path:
        return self.path / "registry.db"

    @property
    def dispatch_lock(self) -> Path:
        return self.path / ".dispatch.lock"

    @property
    def conductor_lock(self) -> Path:
        """flock held by the conductor for its whole life; says who that is, for display."""
        return self.path / ".conductor.lock"

    @property
    def conductor_log(self) -> Path:
        return self.path / ".conductor.log"


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())
