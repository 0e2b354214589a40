"""From the registry's key of a job to its folder, and back."""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.wire.folders import Job, RunsFolder


def job_of(runs: RunsFolder, key: JobKey) -> Job:
    """The folder of a job."""
    run = runs.run(key.run_id)
    return run.job if key.evaluation is None else run.evaluation(key.evaluation).job


def key_of(job: Job) -> JobKey:
    """The key of a job."""
    return JobKey(job.run.id, None if job.kind == "train" else int(job.folder.name))
