"""Makes the registry agree with a job's folder, where a crash or a removed folder left them apart.

Only the holder of the job's lock may use this: nobody else changes the folder meanwhile.
"""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.log import log
from orchestra.wire.errors import NotFoundError, OrchestraError
from orchestra.wire.folders import Job
from orchestra.wire.job import JobState
from orchestra.wire.states import ENDED, LIVE, RunState

_UNFINISHED = LIVE | {RunState.QUEUED}


def reconcile(job: Job, key: JobKey, registry: Registry) -> JobState | None:
    """The job's state as its folder tells it; None if the job can't go on, which is then on record.

    An end that the registry missed is made good there.
    """
    try:
        state = JobState.read(job)
    except FileNotFoundError:
        give_up(key, registry, f"{job.state} is gone: `orchestra rm` forgets the rest of it")
    except OrchestraError as error:
        give_up(key, registry, str(error))
    else:
        if state.state in ENDED:
            _correct(key, registry, state.state, state.reason)
        return state
    return None


def give_up(key: JobKey, registry: Registry, reason: str) -> None:
    """Fail a job that has no usable folder."""
    log(f"{key}: {reason}")
    _correct(key, registry, RunState.FAILED, reason)


def _correct(key: JobKey, registry: Registry, to: RunState, reason: str) -> None:
    try:
        registry.transition(key, _UNFINISHED, to, reason=reason)
    except NotFoundError as error:  # removed meanwhile
        log(f"not recorded: {error}")
