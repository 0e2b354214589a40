"""The GPUs of one job: leased or taken over before its first attempt, drained after each.

Imports what talks to NVML only for jobs that have GPUs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from orchestra.supervise.launch import Settings
from orchestra.wire.errors import ConflictError, OrchestraError

_PATIENCE_S = 10.0  # for what a dead supervisor's ranks still hold
_PAUSE_S = 0.5

Wait = Callable[[float], object]


def lease(
    settings: Settings,
    run_id: str,
    workspace: Path,
    handed: Mapping[str, int],
    stack: ExitStack,
    wait: Wait,
    give_up: Callable[[], bool],
) -> tuple[str, ...]:
    """The UUIDs of the GPUs this job may use until `stack` is closed.

    Args:
        handed: UUID -> descriptor of the leases that the dispatcher took; empty where a supervisor
            follows one that died, which tries for a while by itself.

    Raises:
        ConflictError: they don't become free soon, or can't be leased, as with a mistake in
            orchestra.toml: the queue tells why.
        OrchestraError: what was handed down is no lease.
    """
    if settings.device == "cpu":
        return ()
    from orchestra.gpu.leases import Leases

    if handed:
        stack.enter_context(Leases.adopt(handed, run_id, workspace))
        return tuple(handed)
    leases = stack.enter_context(Leases())
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            devices = leases.acquire(settings.nproc, settings.gpu_ids, run_id, workspace)
        except ConflictError:
            if time.monotonic() > deadline or give_up():
                raise
            wait(_PAUSE_S)
        except OrchestraError as error:
            raise ConflictError(str(error)) from error
        else:
            return tuple(device.uuid for device in devices)


def drain(uuids: tuple[str, ...], wait: Wait) -> str:
    """Wait, bounded, until the driver has freed what killed ranks held; what it has not."""
    if not uuids:
        return ""
    from orchestra.gpu.drain import wait_until_drained
    from orchestra.gpu.probe import Prober

    with Prober() as prober:
        return wait_until_drained(uuids, prober, wait)
