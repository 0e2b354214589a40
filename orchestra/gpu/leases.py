"""The right to a GPU: one flock per device in a machine-wide folder, freed by the kernel.

Works between users and workspaces without a daemon. A lease can be handed to a child process
(the dispatcher takes it, the supervisor keeps it): lock and open file go together, so that no
moment lies between the two in which the device is free.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from orchestra.gpu import lease_file, snapshot
from orchestra.gpu.lease_file import Holder
from orchestra.gpu.pool import over_limit, visible, wanted
from orchestra.gpu.probe import Device, Probe, Prober
from orchestra.gpu.processes import using
from orchestra.gpu.snapshot import Snapshot
from orchestra.gpu.status import status_of
from orchestra.gpu.topology import choose
from orchestra.wire.errors import ConflictError, OrchestraError


class Leases:
    """The leases of one process; closing it, or its death, frees all that it has not handed on."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or lease_file.machine_folder()
        self._held: dict[str, int] = {}

    @classmethod
    def adopt(
        cls, fds: Mapping[str, int], run_id: str, workspace: Path, folder: Path | None = None
    ) -> Leases:
        """The leases that the parent process has handed over (UUID -> inherited descriptor).

        Children of this process inherit them no more.

        Raises:
            OrchestraError: a descriptor is not the locked file of its device. All are left open.
        """
        leases = cls(folder)
        for uuid, fd in fds.items():
            path = leases._path(uuid)
            if not lease_file.is_file_at(fd, path) or not lease_file.relock(fd):
                raise OrchestraError(f"descriptor {fd} is not the lease {path}: start the run anew")
        for uuid, fd in fds.items():
            os.set_inheritable(fd, False)
            leases._held[uuid] = fd
            lease_file.write_note(leases._path(uuid), run_id, workspace)
        return leases

    def __enter__(self) -> Leases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(
        self, count: int, wanted_ids: Sequence[str], run_id: str, workspace: Path
    ) -> tuple[Device, ...]:
        """Lease `count` free devices (of `wanted_ids`, by index or UUID, if there are any).

        Best-linked ones first, within the pool and the limit of the workspace.

        Raises:
            ConflictError: not enough of them are free; the message says why for each.
            NotFoundError: an id names no device.
        """
        named = bool(wanted_ids)
        with Prober() as prober:
            now = snapshot.read(workspace, prober)
            candidates = _candidates(now, wanted_ids)
            reason = over_limit(count, now.held_here, now.limit)
            if reason is not None:
                raise ConflictError(f"no GPU can be leased: {reason}")
            refused = {
                gpu.device.uuid: gpu.status.reason
                for gpu in now.gpus
                if not gpu.status.may_be_taken(named=named)
            }
            while True:
                free = [device for device in candidates if device.uuid not in refused]
                if len(free) < count:
                    raise _conflict(count, candidates, refused)
                chosen = choose(count, free, now.links)
                uuids = [device.uuid for device in chosen]
                lost = self._take(uuids, prober, run_id, workspace, named=named)
                if not lost:
                    return chosen
                refused |= lost

    def take(
        self,
        devices: Sequence[Device],
        prober: Prober,
        run_id: str,
        workspace: Path,
        *,
        named: bool,
    ) -> None:
        """Lease exactly these devices, all or none.

        `named`: the user chose them; what the driver does not tell about them is then no obstacle.

        Raises:
            ConflictError: one of them is not free; the message says why for each.
        """
        uuids = [device.uuid for device in devices]
        lost = self._take(uuids, prober, run_id, workspace, named=named)
        if lost:
            raise _conflict(len(devices), devices, lost)

    def hand_over(self) -> dict[str, int]:
        """UUID -> descriptor, for `pass_fds` of the child that will adopt them.

        Once the child is started, `release` closes this process's copies; the child's keep the
        locks. If it can't be started, `release` frees the devices.
        """
        return dict(self._held)

    def release(self) -> None:
        """Close all leases of this process: what no child has is free."""
        for uuid in list(self._held):
            os.close(self._held.pop(uuid))

    def holders(self) -> dict[str, Holder]:
        """Who holds which device (by UUID) now, on the whole machine."""
        return lease_file.holders(self._folder)

    def _take(
        self, uuids: Sequence[str], prober: Prober, run_id: str, workspace: Path, *, named: bool
    ) -> dict[str, str]:
        """Lease all of them; if that can't be, none, and the reasons (by UUID)."""
        locks: dict[str, int] = {}
        with ExitStack() as undo:
            for uuid in sorted(uuids):  # in one order by all who race, so that one of them wins
                fd = None if uuid in self._held else lease_file.lock(self._path(uuid))
                if fd is None:
                    return self._holders_of(set(uuids) - set(locks), first=uuid)
                undo.callback(os.close, fd)
                locks[uuid] = fd
            # Only now: a device may have been used and freed between a reading and its lock.
            taken = _taken(locks.keys(), prober.read(), named=named)
            if taken:
                return taken
            undo.pop_all()
        self._held |= locks
        for uuid in uuids:
            lease_file.write_note(self._path(uuid), run_id, workspace)
        return {}

    def _holders_of(self, uuids: Collection[str], *, first: str) -> dict[str, str]:
        """Who holds them, as far as one can see; `first` is held for certain."""
        held = {uuid: str(holder) for uuid, holder in self.holders().items() if uuid in uuids}
        return {first: "leased by another run"} | held

    def _path(self, uuid: str) -> Path:
        return lease_file.lock_path(self._folder, uuid)


def _taken(uuids: Collection[str], reading: Probe, *, named: bool) -> dict[str, str]:
    """Which of the devices somebody uses, and why that is said. Their locks are won."""
    now = {device.uuid: device for device in reading.devices}
    leftovers = using(uuids)
    reasons = {}
    for uuid in uuids:
        if uuid not in now:
            reasons[uuid] = reading.error or "it vanished from NVML"
            continue
        status = status_of(now[uuid], None, leftover=leftovers.get(uuid))
        if not status.may_be_taken(named=named):
            reasons[uuid] = status.reason
    return reasons


def _conflict(
    count: int, candidates: Sequence[Device], refused: Mapping[str, str]
) -> ConflictError:
    taken = [device for device in candidates if device.uuid in refused]
    why = "".join(f"; GPU {device.index}: {refused[device.uuid]}" for device in taken)
    return ConflictError(
        f"{count} {'GPU is' if count == 1 else 'GPUs are'} wanted, "
        f"{len(candidates) - len(taken)} of {len(candidates)} can be had{why}"
    )


def _candidates(now: Snapshot, wanted_ids: Sequence[str]) -> list[Device]:
    if now.error is not None:
        raise ConflictError(f"no GPU can be leased: {now.error}")
    devices = [gpu.device for gpu in now.gpus]
    pool = visible(devices, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return wanted(pool, wanted_ids) if wanted_ids else pool
