"""queue.json: what a job waits for besides its turn. Written where the job is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from orchestra.wire.files import read_json, reading, write_json
from orchestra.wire.folders import Job

VERSION = 1


@dataclass(frozen=True)
class QueueEntry:
    """A job's place among the others."""

    priority: int = 0
    """Higher goes first."""
    after: str = ""
    """Id of the run that must be completed before this job may start; empty: none."""
    init_from: str = ""
    """Weights of that run which become this job's `init` table when it is completed
    (`--init-from`, see schedule.initial.find_weights); empty: none, or they are frozen already."""

    def write(self, job: Job) -> None:
        """Replace the job's entry."""
        write_json(job.queue, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, job: Job) -> QueueEntry:
        """The job's entry; of a job without one, as older orchestras made them, the defaults.

        Raises:
            OrchestraError: the file is broken.
        """
        try:
            document = read_json(job.queue)
        except FileNotFoundError:
            return cls()
        with reading(job.queue):
            return cls(int(document["priority"]), document["after"], document["init_from"])
