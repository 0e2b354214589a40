"""Which jobs have no supervisor though they need one. Only jobs of this machine are ever revived.

Here a pid can be checked; a run that lives on another machine may be in perfect health.
"""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.reconcile import reconcile
from orchestra.wire.folders import Job
from orchestra.wire.states import RunState


def needs_supervisor(job: Job, key: JobKey, registry: Registry) -> bool:
    """Whether it is queued, or its supervisor has died, before a reboot too. Its folder decides.

    Call it with the job's lock held.
    """
    state = reconcile(job, key, registry)
    return state is not None and (state.state == RunState.QUEUED or state.is_orphaned())
