"""What one attempt is started with: command, environment, tag, and its plain torchrun form.

Reads the `launch` table of the frozen config with the standard library alone; everything in it
was validated when it was frozen, and the ranks validate it again.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestra.supervise.hang import Deadlines
from orchestra.supervise.policy import Budget
from orchestra.wire import lifeline
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json
from orchestra.wire.folders import Job, RunsFolder
from orchestra.wire.job import CODE, JOB, RUN, TAG, WORKSPACE


@dataclass(frozen=True)
class Settings:
    """The `launch` table (orchestra.config.schema.LaunchConfig says what each key means)."""

    device: str
    gpu_ids: tuple[str, ...]
    nproc: int
    threads: int
    grace_s: float
    deadlines: Deadlines
    oom_split: bool
    budget: Budget


def read_settings(config: Path) -> Settings:
    """The launch settings of a frozen config.

    Raises:
        OrchestraError: the file is missing, is not TOML or lacks a key.
    """
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))["launch"]
        return Settings(
            device=table["device"],
            gpu_ids=tuple(table["gpu_ids"]),
            nproc=table["nproc"],
            threads=table["threads"],
            grace_s=table["grace_s"],
            # Configs frozen before there were these keys mean the defaults.
            deadlines=Deadlines(
                table.get("step_deadline_s", 30.0), table.get("long_deadline_s", 300.0)
            ),
            oom_split=table.get("oom_split", False),
            budget=Budget(table["max_restarts"], table["backoff_s"]),
        )
    except OSError as error:
        raise OrchestraError(f"cannot read {config}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise OrchestraError(f"{config} is not a frozen config: {error!r}") from error


def code_folder(runs: RunsFolder, job: Job) -> Path:
    """The snapshot that every attempt of the run executes.

    Raises:
        OrchestraError: it is not on record or no longer there.
    """
    try:
        code = runs.snapshot(read_json(job.run.provenance)["code"])
    except (FileNotFoundError, KeyError) as error:
        raise OrchestraError(f"{job.run.provenance} names no code snapshot") from error
    if not code.is_dir():
        raise OrchestraError(f"the code snapshot {code} of run {job.run.id} is gone")
    return code


def code_environment(
    code: Path, workspace: Path, *, threads: int, devices: tuple[str, ...] = ()
) -> dict[str, str]:
    """What makes `python -m orchestra...` run the snapshot `code` on `devices` (GPU UUIDs)."""
    return {
        CODE: os.fspath(code),
        WORKSPACE: os.fspath(workspace),
        # Without both, `python -m` would import the workspace's live code.
        "PYTHONPATH": os.fspath(code),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
    }


def new_tag(job: Job, attempt: int) -> str:
    """A value that no other attempt ever has: the only key to kill by.

    All tags of a job have the same length, so that one can be put in the place of another.
    `attempt` 0 is the launcher.
    """
    part = "" if job.kind == "train" else f".e{int(job.folder.name)}"
    return f"{job.run.id}{part}.{attempt:06d}.{os.urandom(8).hex()}"


@dataclass(frozen=True)
class Launch:
    """One attempt about to start."""

    job: Job
    attempt: int
    tag: str
    code: Path
    workspace: Path
    settings: Settings
    devices: tuple[str, ...]  # GPU UUIDs; empty on CPU

    def agent_arguments(self) -> list[str]:
        """Of the agent: torchrun in our own entry, so that each rank's failure is kept."""
        return ["--nproc", str(self.settings.nproc), *self._job_arguments()]

    def environment(self, base: Mapping[str, str], tag: str) -> dict[str, str]:
        """What the launcher and all below it inherit; the agent puts its own tag in."""
        environment = {
            **base,
            **self._code_environment(),
            RUN: self.job.run.id,
            JOB: os.fspath(self.job.folder),
            TAG: tag,
            "SPT_NOENV": "1",  # setproctitle would overwrite the environment, the tag with it
        }
        lifeline.announce(environment)
        return environment

    def plain_command(self) -> tuple[str, ...]:
        """The same training by plain torchrun; run it in the workspace folder."""
        variables = (f"{name}={value}" for name, value in self._code_environment().items())
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--max-restarts", "0")
        ranks = ("--nproc-per-node", str(self.settings.nproc), "-m", "orchestra.train.rank")
        return ("env", *variables, sys.executable, *torchrun, *ranks, *self._job_arguments())

    def _code_environment(self) -> dict[str, str]:
        return code_environment(
            self.code, self.workspace, threads=self.settings.threads, devices=self.devices
        )

    def _job_arguments(self) -> tuple[str, ...]:
        folder, number = os.fspath(self.job.folder), str(self.attempt)
        return ("--job", folder, "--kind", self.job.kind, "--attempt", number)
