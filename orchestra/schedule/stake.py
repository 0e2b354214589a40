"""What a stop or a removal of a run would end, and what of it stays: for the question before.

Reads the registry, job folders and heartbeat pages; changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestra.formats import size
from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry, open_registry
from orchestra.schedule.checkpoints import steps
from orchestra.schedule.seen import Seen, see
from orchestra.supervise.jobs import job_of
from orchestra.supervise.launch import read_settings
from orchestra.wire.errors import OrchestraError
from orchestra.wire.heartbeat import pages_folder, read_beats
from orchestra.wire.identity import start_ticks
from orchestra.wire.states import ENDED, AttemptState
from orchestra.workspace import Workspace


@dataclass(frozen=True)
class Rank:
    """A live rank of a job."""

    job: JobKey
    rank: int
    pid: int
    step: int


@dataclass(frozen=True)
class Stake:
    """A run with all that hangs on it."""

    seen: Seen
    name: str
    jobs: tuple[JobKey, ...]
    """What a stop would end."""
    ranks: tuple[Rank, ...]
    devices: tuple[str, ...]
    """UUIDs of the GPUs that would be free then."""
    grace_s: float | None
    """For a last save; None: its config can't be read."""
    step: int
    checkpoints: tuple[int, ...]
    """Steps, oldest first."""
    evaluations: int
    folder: Path

    @property
    def run_id(self) -> str:
        return self.seen.run_id

    @property
    def lost_steps(self) -> int:
        """Steps since the newest checkpoint."""
        return max(0, self.step - max(self.checkpoints, default=0))


def at_stake(workspace: Workspace, run_id: str) -> Stake:
    """The run now (NotFoundError)."""
    run = workspace.runs.run(run_id)
    with open_registry(workspace.runs) as registry:
        row = registry.get_run(run_id)
        seen = see(workspace, registry, row)
        own = [JobKey(run_id)] if row.state not in ENDED else []
        jobs = tuple(own or (JobKey(run_id, number) for number in sorted(seen.evaluations)))
        work = [_work(registry, key) for key in jobs]
        evaluations = len(registry.evaluations(run_id))
    ranks = tuple(rank for found, _ in work for rank in found)
    return Stake(
        seen,
        row.name,
        jobs,
        ranks,
        tuple(uuid for _, devices in work for uuid in devices),
        _grace_s(workspace, jobs[0] if jobs else JobKey(run_id)),
        max([row.step, *(rank.step for rank in ranks if rank.job.evaluation is None)]),
        tuple(steps(run)),
        evaluations,
        run.path,
    )


def removal(stake: Stake) -> str:
    """What `rm` deletes, in a phrase."""
    checkpoints, evaluations = len(stake.checkpoints), stake.evaluations
    held = [f"{size(_bytes(stake.folder))}"]
    held += [f"{checkpoints} checkpoint{'s' * (checkpoints != 1)}"] if checkpoints else []
    held += [f"{evaluations} evaluation{'s' * (evaluations != 1)}"] if evaluations else []
    return (
        f"{stake.run_id} ({stake.name}), {stake.seen.state.value}, {stake.folder}: "
        f"{', '.join(held)}"
    )


def _work(registry: Registry, key: JobKey) -> tuple[list[Rank], tuple[str, ...]]:
    """The live ranks and the GPUs of a job's newest attempt, if that goes on."""
    for attempt in registry.attempts(key)[-1:]:
        if attempt.state == AttemptState.RUNNING:
            beats = read_beats(pages_folder(attempt.tag))
            ranks = [
                Rank(key, beat.rank, beat.pid, beat.step)
                for beat in beats
                if start_ticks(beat.pid) == beat.start_ticks
            ]
            return ranks, attempt.devices
    return [], ()


def _grace_s(workspace: Workspace, key: JobKey) -> float | None:
    try:
        return read_settings(job_of(workspace.runs, key).config).grace_s
    except OrchestraError:
        return None


def _bytes(folder: Path) -> int:
    """Of all files below."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:  # just gone
                continue
    return total
