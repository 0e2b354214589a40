"""The small JSON documents of a job folder: state, attempt, result, stop flag, evaluation spec."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from orchestra.wire.files import read_json, reading, write_json
from orchestra.wire.folders import AttemptFolder, EvaluationFolder, Job
from orchestra.wire.identity import ProcessIdentity
from orchestra.wire.states import AttemptState, RunState

VERSION = 1

# The environment of everything that belongs to an attempt (see wire/lifeline.py for one more).
RUN = "ORCHESTRA_RUN"  # run id
TAG = "ORCHESTRA_TAG"  # <run id>.<attempt>.<nonce>: unique, inherited, the only key to kill by
JOB = "ORCHESTRA_JOB"  # the job folder, by which `orchestra reap` finds who owns a process
LAUNCHER = "ORCHESTRA_LAUNCHER"  # the socket at which train/launcher.py is asked for ranks
CODE = "ORCHESTRA_CODE"  # the laid-out snapshot whose tasks/ and orchestra/ are used
WORKSPACE = "ORCHESTRA_WORKSPACE"


def config_sha256(job: Job) -> str:
    """The identity of the job's frozen config as it is now (OSError)."""
    return hashlib.sha256(job.config.read_bytes()).hexdigest()


@dataclass(frozen=True)
class JobState:
    """state.json: written by `run` (queued) and then by the supervisor that holds the lock."""

    state: RunState
    reason: str  # one sentence; empty while all is well
    attempt: int  # newest attempt's number; 0 before the first
    updated_at: float  # Unix time
    supervisor: ProcessIdentity | None = None
    failures: int = 0  # failed attempts since the last checkpoint progress, or since a resume

    def is_orphaned(self) -> bool:
        """Whether its supervisor lived on this machine and no longer runs."""
        return (
            self.supervisor is not None
            and self.supervisor.is_here()
            and not self.supervisor.is_alive()
        )

    def write(self, job: Job) -> None:
        """Replace the job's state."""
        document = asdict(self)
        document["supervisor"] = self.supervisor.to_json() if self.supervisor else None
        write_json(job.state, {"version": VERSION, **document})

    @classmethod
    def read(cls, job: Job) -> JobState:
        """The job's state.

        Raises:
            FileNotFoundError: the folder is not a job.
            OrchestraError: the file is broken.
        """
        document = read_json(job.state)
        with reading(job.state):
            supervisor = document["supervisor"]
            return cls(
                state=RunState(document["state"]),
                reason=document["reason"],
                attempt=int(document["attempt"]),
                updated_at=float(document["updated_at"]),
                supervisor=ProcessIdentity.from_json(supervisor) if supervisor else None,
                failures=int(document.get("failures", 0)),
            )


@dataclass(frozen=True)
class Attempt:
    """attempt.json."""

    number: int
    tag: str
    world_size: int
    devices: tuple[str, ...]  # GPU UUIDs; empty on CPU
    started_at: float
    state: AttemptState = AttemptState.RUNNING
    reason: str = ""
    ended_at: float | None = None
    agent: ProcessIdentity | None = None
    first_step: int = 0  # the step it started from
    last_step: int = 0
    failures_before: int = 0  # failed attempts since the last checkpoint progress
    ranks: tuple[int, ...] = ()  # pid of each rank, once all have beaten
    command: tuple[str, ...] = field(default=())  # the equivalent plain torchrun command
    config_sha256: str = ""  # of the job's config.toml as this attempt reads it
    launcher: str = ""  # tag of the warm launcher that forked the agent; empty if there was none
    split: int = 1  # parts that each micro-batch is cut into (launch.oom_split); above 1: not exact
    failure: dict[str, Any] | None = None  # evidence of how it failed, see supervise/failure.py

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        agent = self.agent.to_json() if self.agent else None
        return {"version": VERSION, **asdict(self), "agent": agent}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Attempt:
        """The inverse of `to_json`; a newer version's keys are left out, absent ones defaulted."""
        known = {item.name for item in fields(cls)}
        document = {key: item for key, item in value.items() if key in known}
        agent = document.get("agent")
        return cls(
            **{
                **document,
                "state": AttemptState(document["state"]),
                "devices": tuple(document["devices"]),
                "ranks": tuple(document.get("ranks", ())),
                "command": tuple(document.get("command", ())),
                "agent": ProcessIdentity.from_json(agent) if agent else None,
            }
        )

    def write(self, folder: AttemptFolder) -> None:
        """Replace the attempt's document."""
        write_json(folder.attempt, self.to_json())

    @classmethod
    def read(cls, folder: AttemptFolder) -> Attempt:
        """The attempt's document (FileNotFoundError, OrchestraError as `read_json`)."""
        document = read_json(folder.attempt)
        with reading(folder.attempt):
            return cls.from_json(document)


@dataclass(frozen=True)
class Result:
    """result.json: rank 0's last word. An exit code of 0 without it is a failure."""

    outcome: Literal["completed", "stopped"]
    step: int
    reason: str = ""  # what ended it before train.max_steps; one sentence

    def write(self, folder: AttemptFolder) -> None:
        """Commit the result."""
        write_json(folder.result, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: AttemptFolder) -> Result | None:
        """The result; None if the attempt has not committed one."""
        try:
            document = read_json(folder.result)
        except FileNotFoundError:
            return None
        with reading(folder.result):
            return cls(document["outcome"], document["step"], document.get("reason", ""))


@dataclass(frozen=True)
class StopFlag:
    """stop.json: please save and end at the next step; after `grace_s` the supervisor kills."""

    requested_at: float
    grace_s: float  # 0: kill now
    preempted: bool = False  # nobody wants the run to end for good, its supervisor got a signal

    def write(self, job: Job) -> None:
        """Raise the flag."""
        write_json(job.stop, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, job: Job) -> StopFlag | None:
        """The flag, if raised."""
        try:
            document = read_json(job.stop)
        except FileNotFoundError:
            return None
        with reading(job.stop):
            preempted = document.get("preempted", False)
            return cls(document["requested_at"], document["grace_s"], preempted)


@dataclass(frozen=True)
class EvaluationSpec:
    """spec.json: which checkpoint on which split."""

    split: str
    checkpoint: str  # "best", "last", a step number or a path
    created_at: float
    origin: Literal["run", "user"] = "user"  # "run": after the last step, without a supervisor
    source: str = ""  # the run or folder named by --init-from, if `checkpoint` is not the run's own
    sha256: str = ""  # of the manifest there, as it was verified

    def write(self, folder: EvaluationFolder) -> None:
        """Write what was asked for."""
        write_json(folder.spec, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, folder: EvaluationFolder) -> EvaluationSpec:
        """The spec (FileNotFoundError, OrchestraError as `read_json`)."""
        document = read_json(folder.spec)
        with reading(folder.spec):
            # Before there was an origin, a state file told the evaluations of users.
            origin: Any = document.get("origin") or ("user" if folder.job.state.exists() else "run")
            return cls(
                document["split"],
                document["checkpoint"],
                document["created_at"],
                origin,
                document.get("source", ""),
                document.get("sha256", ""),
            )
