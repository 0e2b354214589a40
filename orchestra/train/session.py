"""One rank's place in one attempt: what training and evaluation both start from."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from orchestra.config.frozen import read_frozen
from orchestra.config.schema import RunConfig
from orchestra.tasks import Task
from orchestra.train.distributed import Ranks, join
from orchestra.train.precision import set_determinism
from orchestra.train.recorder import Recorder
from orchestra.wire.folders import AttemptFolder, Job
from orchestra.wire.heartbeat import Heartbeat, Phase
from orchestra.wire.job import CODE, Attempt, StopFlag

log = logging.getLogger("orchestra")


@dataclass(frozen=True)
class Session:
    """Made once per process."""

    job: Job
    attempt: AttemptFolder
    config: RunConfig
    task: Task
    ranks: Ranks
    recorder: Recorder
    pulse: Heartbeat
    split: int = 1
    """Parts that each micro-batch of training is cut into, so that it fits into memory."""

    def scratch(self, name: str) -> Path:
        """A folder of this attempt alone: nothing in it is left from another one."""
        return self.attempt.path / "scratch" / name

    def tell(self, step: int, text: str) -> None:
        """A sentence in the run's record by rank 0; in their logs by the others."""
        if self.ranks.is_first:
            self.recorder.notice(step, text)
        else:
            log.warning("%s", text)

    def stop_requested(self) -> bool:
        """Whether the stop flag is up; only rank 0 looks, and tells the others."""
        return (
            self.ranks.is_first and self.job.stop.exists() and StopFlag.read(self.job) is not None
        )


def open_session(job: Job, attempt: AttemptFolder, pulse: Heartbeat) -> Session:
    """Read the frozen config, load the task, meet the other ranks.

    Raises:
        UsageError, NotFoundError: the config or the task can't be used.
    """
    config, info = read_frozen(job.config, Path(os.environ.get(CODE, Path.cwd())))
    task = info.task_class()(config.task, config.data)
    set_determinism(config.train)
    pulse.beat(0, Phase.INIT)
    ranks = join(config.launch)
    recorder = Recorder(attempt, ranks.is_first, config.train.log_format)
    return Session(job, attempt, config, task, ranks, recorder, pulse, _split(attempt))


def _split(attempt: AttemptFolder) -> int:
    """What the supervisor wrote down; a rank started by hand may have none."""
    try:
        return Attempt.read(attempt).split
    except FileNotFoundError:
        return 1
