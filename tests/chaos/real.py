"""The sandbox with real ranks: this checkout's own training plane, on a task that breaks on demand.

Nothing stands in for anything: supervisor, launcher, torchrun, two ranks on the CPU.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.config.frozen import dump, validate
from orchestra.registry.rows import NewRun
from orchestra.tasks import find_task
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.files import write_json
from orchestra.wire.folders import Job
from orchestra.wire.heartbeat import Beat, pages_folder, read_beats
from orchestra.wire.job import JobState
from orchestra.wire.states import RunState
from tests.chaos.sandbox import HERE, PACKAGE, Sandbox, wait_for

EVERY = 2
"""Steps between two checkpoints."""
STEP_DEADLINE_S, LONG_DEADLINE_S = 2.5, 60.0


@dataclass(frozen=True)
class Strike:
    """When a rank broke, and what it left word of."""

    at: float
    """Unix time."""
    text: str


class RealSandbox(Sandbox):
    """Made by the fixtures `real` and `shared`."""

    patience_s = 240.0

    def lay_out(self, agent: Path, rank: Path) -> None:
        """The code snapshot of all runs is this checkout."""
        del agent, rank  # no stand-ins
        shutil.rmtree(self.code, ignore_errors=True)
        self.code.mkdir(parents=True)
        (self.code / "orchestra").symlink_to(PACKAGE)
        tasks = self.code / "tasks"
        tasks.mkdir()
        (tasks / "broken").symlink_to(HERE / "workspace" / "tasks" / "broken")
        (tasks / "example").symlink_to(builtin_folder() / "tasks" / "example")

    def add_real_run(self, *, steps: int, nproc: int = 2, **tables: dict[str, Any]) -> Job:
        """A queued run of the task `broken`; `tables` override single keys of what is here."""
        document: dict[str, Any] = {
            "seed": 1,
            # Short utterances: no micro-batch holds a single one, which could not be cut.
            "task": {
                "kind": "broken",
                "train_utterances": 40,
                "other_utterances": 5,
                "longest_s": 0.5,
            },
            "upstream": {"kind": "fbank", "mels": 20, "deltas": 0},
            "data": {"train": "train", "valid": "valid", "test": ["test"], "workers": 0},
            "batch": {"seconds": 4.0, "max_micro_seconds": 2.5, "micro_batches": 2},
            "optim": {"lr": 0.003},
            "train": {"max_steps": steps, "eval_every": 10_000, "log_every": 1},
            "checkpoint": {"every": EVERY, "keep_last": 3},
            "launch": {
                "nproc": nproc,
                "threads": 1,
                "max_restarts": 99,
                "backoff_s": 0.0,
                "step_deadline_s": STEP_DEADLINE_S,
                "long_deadline_s": LONG_DEADLINE_S,
            },
        }
        for name, table in tables.items():
            document[name] = {**document[name], **table}
        run = self.workspace.runs.run(f"r{len(self.jobs)}-{time.monotonic_ns():x}")
        run.path.mkdir()
        run.job.config.write_bytes(dump(validate(document, find_task("broken", self.code))))
        write_json(run.identity, {"id": run.id, "created_at": time.time()})
        write_json(run.provenance, {"code": self.code.name})
        JobState(RunState.QUEUED, "", 0, time.time()).write(run.job)
        with self.registry() as registry:
            row = NewRun(run.id, run.id, "broken", "fbank", time.time(), steps, config_sha256="0")
            registry.create_run(row)
        self.jobs.append(run.job)
        return run.job

    def strike(self, job: Job, attempt: int, rank: int) -> Strike:
        """What the task left word of as it broke."""
        at, _, text = (job.folder / "strikes" / f"{attempt}.{rank}").read_text().partition(" ")
        return Strike(float(at), text)

    def beats(self, job: Job) -> list[Beat]:
        """Of the newest attempt's ranks."""
        attempts = self.attempts(job)
        return read_beats(pages_folder(attempts[-1].tag)) if attempts else []

    def at_step(self, job: Job, step: int, *, attempt: int) -> list[Beat]:
        """The pages of all ranks, once that attempt has come to that step."""

        def there() -> list[Beat]:
            attempts = self.attempts(job)
            if not attempts or attempts[-1].number < attempt:
                return []
            beats = self.beats(job)
            all_there = len(beats) == attempts[-1].world_size and all(b.step >= step for b in beats)
            return beats if all_there else []

        beats: list[Beat] = wait_for(f"step {step} of attempt {attempt}", there, self.patience_s)
        return beats
