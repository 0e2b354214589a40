"""Runs on record that differ in known ways; nothing is started."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import tomli_w

from orchestra.registry.metrics import MetricStore
from orchestra.schedule.compare import Comparison, compare
from orchestra.wire.files import read_json, write_json
from orchestra.wire.folders import Job
from orchestra.wire.records import Record
from orchestra.wire.states import RunState
from tests.chaos.sandbox import Sandbox

IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "T"), ("EMAIL", "t@localhost"))
}


class Bench:
    """A workspace in a git repository, with runs that are written down only."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.root = sandbox.workspace.root
        (self.root / ".gitignore").write_text("runs\n")
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-C", os.fspath(self.root), *words],
            env={**os.environ, **IDENTITY},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, subject: str, **files: str) -> str:
        for name, text in files.items():
            (self.root / f"{name}.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def add(self, run_id: str, **values: Any) -> Job:
        """A run of the code as it is committed now; `values` are changed keys of its config."""
        job = self.sandbox.add_run(run_id=run_id)
        self.configure(job, **values)
        tree = self.git("rev-parse", "HEAD^{tree}")
        self.provenance(
            job,
            commit=self.git("rev-parse", "HEAD"),
            tree=tree,
            code=tree,
            environment={"python": {"version": "3.11.2"}, "packages": {"torch": "2.13.0"}},
        )
        return job

    def configure(self, job: Job, **values: Any) -> None:
        config = {"optim": {"lr": 0.001, "kind": "adamw"}, "seed": 7, "task": {"kind": "standin"}}
        job.config.write_text(tomli_w.dumps(config | values))

    def provenance(self, job: Job, **values: Any) -> None:
        known = read_json(job.run.provenance)
        write_json(job.run.provenance, known | values)

    def evaluate(self, job: Job, split: str, step: int = 10, **metrics: float) -> None:
        """An evaluation on record, with the task's directions."""
        with self.sandbox.registry() as registry:
            number = len(registry.evaluations(job.run.id)) + 1
            registry.create_evaluation(
                job.run.id, number, split, f"step {step}", state=RunState.RUNNING
            )
            registry.finish_evaluation(job.run.id, number, metrics, step)
        folder = job.run.evaluation(number)
        folder.path.mkdir(parents=True)
        directions = {"wer": "min", "accuracy": "max"}
        write_json(
            folder.metrics,
            {
                "declared": [name for name in directions if name in metrics],
                "directions": directions,
                "data": {"split": split, "manifest_sha256": f"hash of {split}"},
            },
        )

    def curve(self, job: Job, **last: float) -> None:
        store = MetricStore(job.run.metrics)
        store.append(1, [Record("train", 3, 0.0, last)])
        store.close()

    def compare(self, *run_ids: str, whole_code: bool = False) -> Comparison:
        with self.sandbox.registry() as registry:
            return compare(self.sandbox.workspace, registry, run_ids, whole_code=whole_code)


def by_key(rows: Any) -> dict[str, tuple[Any, ...]]:
    return {row.key: row.values for row in rows}
