"""What goes into and comes out of the registry: small frozen dataclasses, one per table.

No SQL and no I/O here, apart from the mapping between a row and its dataclass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from orchestra.wire.identity import ProcessIdentity


@dataclass(frozen=True)
class JobKey:
    """What one supervisor owns: a run, or the evaluation with that number of it."""

    run_id: str
    evaluation: int | None = None

    def __str__(self) -> str:
        return self.run_id if self.evaluation is None else f"{self.run_id} eval {self.evaluation}"


@dataclass(frozen=True)
class Demand:
    """What a job asks of the queue."""

    priority: int = 0
    """Higher goes first."""
    gpus: int | None = None
    """How many; 0: none; None: not on record, its config tells."""
    gpu_ids: tuple[str, ...] = ()
    """Only of these, by index or UUID; empty: of any."""
    after: str = ""
    """Id of the run that must be completed first; empty: none."""


def gpus_of(device: str, nproc: int) -> int:
    """The GPUs of a job with such a `launch` table."""
    return nproc if device == "gpu" else 0


@dataclass(frozen=True)
class NewRun:
    """A run about to be queued."""

    id: str
    name: str
    task: str
    upstream: str
    created_at: float  # Unix time
    max_steps: int | None
    config_sha256: str
    metric: str | None = None
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    git_tree: str | None = None
    demand: Demand = Demand()
    config: str | None = None
    """The frozen config as a JSON document (registry.configs); None where it is not known."""
    tags: tuple[str, ...] = ()
    remark: str = ""
    parent: str = ""
    member: str = ""


@dataclass(frozen=True)
class RunRow:
    """A run as the registry sees it. Times are Unix times."""

    id: str
    name: str
    state: RunState
    reason: str
    task: str
    upstream: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    step: int
    max_steps: int | None
    loss: float | None
    audio_s_per_s: float | None
    eta_s: float | None
    score: float | None
    best_score: float | None
    metric: str | None
    attempt: int
    supervisor_pid: int | None  # None unless a supervisor owns it
    host: str | None  # where it lives, or lived last
    devices: tuple[str, ...]
    git_commit: str | None
    git_branch: str | None
    git_dirty: bool | None
    git_tree: str | None
    config_sha256: str
    gpus: int | None = None
    """How many it asks for; None: not on record, its config tells."""
    tags: tuple[str, ...] = ()
    remark: str = ""
    """The user's note."""
    parent: str = ""
    """Id of the parent run that it is a member of; empty: none."""
    member: str = ""
    """What sets it apart from the other members, such as `task.fold=3`."""


RUN_COLUMNS = tuple(field.name for field in fields(RunRow))


@dataclass(frozen=True)
class CheckpointRow:
    """A committed checkpoint. `path` is relative to the run folder."""

    step: int
    path: str
    score: float | None
    metric: str | None
    created_at: float


@dataclass(frozen=True)
class EvaluationRow:
    """An evaluation asked for, running or done. `metrics` is empty until it is done."""

    number: int
    state: RunState
    reason: str
    split: str
    checkpoint: str
    checkpoint_step: int | None
    metrics: dict[str, float]
    created_at: float
    started_at: float | None
    ended_at: float | None
    supervisor_pid: int | None
    host: str | None


EVALUATION_COLUMNS = tuple(field.name for field in fields(EvaluationRow))


@dataclass(frozen=True)
class QueuedRow:
    """A job that waits. `name` is its run's."""

    key: JobKey
    name: str
    demand: Demand
    queued_at: float
    after_state: RunState | None
    """Of the run it waits for; None: there is no such run (any more)."""
    after_ended_at: float | None = None
    """When that run ended (Unix time)."""
    parent: str = ""
    """Of a run: id of the parent run that it is a member of."""
    sibling: str = ""
    """Id of a member of the same parent run that is at work, if one is known."""


@dataclass(frozen=True)
class EventRow:
    """Something that happened to a run (or to one evaluation of it)."""

    time_s: float
    kind: str
    text: str
    evaluation: int | None


@dataclass(frozen=True)
class NewestEvent:
    """An event of any run. A later one has a larger `id`."""

    id: int
    run_id: str
    name: str
    """The run's."""
    event: EventRow


@lru_cache(maxsize=2048)
def run_row(values: tuple[Any, ...]) -> RunRow:
    """From a row of RUN_COLUMNS. Of a row that has not changed it is the very same object: the
    monitor reads a thousand once a second.
    """
    decoded = list(values)
    for place, decode in _DECODED:
        decoded[place] = decode(decoded[place])
    return RunRow(*decoded)


def _words(document: str) -> tuple[str, ...]:
    return () if document == "[]" else tuple(json.loads(document))


#: What a column holds in another form, by its place.
_DECODED: tuple[tuple[int, Callable[[Any], Any]], ...] = (
    (RUN_COLUMNS.index("state"), RunState),
    (RUN_COLUMNS.index("devices"), _words),
    (RUN_COLUMNS.index("git_dirty"), lambda flag: None if flag is None else bool(flag)),
    (RUN_COLUMNS.index("tags"), _words),
)


def evaluation_row(values: tuple[Any, ...]) -> EvaluationRow:
    """From a row of EVALUATION_COLUMNS."""
    row = dict(zip(EVALUATION_COLUMNS, values, strict=True))
    row["state"] = RunState(row["state"])
    row["metrics"] = json.loads(row["metrics"])
    return EvaluationRow(**row)


def new_run_values(run: NewRun) -> dict[str, Any]:
    """Columns of `runs` that a new run fills; its config has a table of its own."""
    others = {"demand", "config", "tags"}
    values = {name: getattr(run, name) for name in run.__dataclass_fields__ if name not in others}
    return {**values, "tags": json.dumps(run.tags), **demand_values(run.demand)}


def demand_values(demand: Demand) -> dict[str, Any]:
    """Columns that a job's demand fills."""
    return {**asdict(demand), "gpu_ids": json.dumps(demand.gpu_ids)}


def demand_row(priority: int, gpus: int | None, gpu_ids: str, after: str) -> Demand:
    """The inverse of `demand_values`, from the columns in this order."""
    return Demand(priority, gpus, tuple(json.loads(gpu_ids)), after)


def supervisor_values(supervisor: ProcessIdentity) -> Mapping[str, Any]:
    """Columns that name the process which owns a job."""
    return {
        "supervisor_pid": supervisor.pid,
        "supervisor_start_ticks": supervisor.start_ticks,
        "boot_id": supervisor.boot_id,
        "machine_id": supervisor.machine_id,
        "host": supervisor.host,
    }
