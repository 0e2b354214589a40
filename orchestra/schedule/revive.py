"""Which live jobs have lost their supervisor. Only jobs of this machine are ever touched.

Here a pid can be checked; a run that lives on another machine may be in perfect health.
"""

from __future__ import annotations

from orchestra.registry.rows import JobKey
from orchestra.registry.store import Registry
from orchestra.supervise.jobs import job_of
from orchestra.wire.job import JobState
from orchestra.wire.states import ENDED, LIVE
from orchestra.workspace import Workspace


def orphans(workspace: Workspace, registry: Registry) -> list[JobKey]:
    """Live jobs of this machine whose supervisor no longer runs, after a reboot too.

    A job that had ended before its supervisor could tell the registry is corrected there.
    """
    found = []
    for key in registry.jobs_in(LIVE):
        try:
            state = JobState.read(job_of(workspace.runs, key))
        except FileNotFoundError:  # its folder was removed by hand
            continue
        if state.state in ENDED:
            registry.transition(key, LIVE, state.state, reason=state.reason)
        elif (
            state.supervisor is not None
            and state.supervisor.is_here()
            and not state.supervisor.is_alive()
        ):
            found.append(key)
    return found
