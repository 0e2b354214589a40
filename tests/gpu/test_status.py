"""Each GPU has one state, and a reason that says who or what is in the way."""

from __future__ import annotations

import pytest

from orchestra.gpu.lease_file import Holder
from orchestra.gpu.probe import Device, GpuProcess
from orchestra.gpu.processes import Leftover, Owner
from orchestra.gpu.status import MEMORY_FLOOR, GpuState, run_of, status_of

ANN = Holder("run1", "ann", 5, 0.0, "/ws")
BOB = GpuProcess(12, 10, owner=Owner("python", "bob"))
XORG = GpuProcess(3, 10, graphics=True, owner=Owner("Xorg", "root"))


def device(
    *, used: int | None = 0, processes: tuple[GpuProcess, ...] | None = (), mig: bool = False
) -> Device:
    return Device(0, "GPU-a", "X", 80 * 2**30, used, 0, processes, mig=mig)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (status_of(device(), None), GpuState.FREE, "free"),
        (status_of(device(), ANN), GpuState.LEASED, "leased by run run1 of user ann"),
        (
            status_of(device(processes=(BOB,)), None),
            GpuState.FOREIGN,
            "foreign process (pid 12 python of bob)",
        ),
        (
            status_of(device(processes=(GpuProcess(12, None),)), None),
            GpuState.FOREIGN,
            "foreign process (pid 12)",
        ),
        (
            status_of(device(used=MEMORY_FLOOR + 2**30), None),
            GpuState.FOREIGN,
            "foreign process (pid not told; 1.5 GiB in use)",
        ),
        (
            status_of(device(), None, leftover=Leftover(7, "run9")),
            GpuState.FOREIGN,
            "process of run run9, which holds no lease (pid 7)",
        ),
        (
            status_of(device(processes=(GpuProcess(7, 1, owner=Owner("py", "ann", "r9")),)), None),
            GpuState.FOREIGN,
            "process of run r9, which holds no lease (pid 7 py of ann)",
        ),
        (
            status_of(device(), None, inside=False),
            GpuState.OUTSIDE,
            "outside this workspace's pool (gpus.ids, orchestra.toml)",
        ),
    ],
)
def test_state_and_reason(status: object, state: GpuState, reason: str) -> None:
    assert (status.state, status.reason) == (state, reason)  # type: ignore[attr-defined]


def test_a_lease_explains_its_own_processes_but_not_others() -> None:
    own = GpuProcess(1, 10, owner=Owner("python", "ann"))
    unseen = GpuProcess(2, 10)  # maybe a host's pid
    busy = status_of(device(used=2**33, processes=(own, unseen)), ANN)
    assert busy.reason == "leased by run run1 of user ann"
    shared = status_of(device(processes=(own, BOB)), ANN)
    assert shared.reason == f"{busy.reason}; also used by pid 12 python of bob"


def test_only_a_foreign_lease_names_the_run_of_another_users_process() -> None:
    assert run_of(GpuProcess(1, 1, owner=Owner("python", "ann")), ANN) == "run1"
    assert run_of(GpuProcess(1, 1, owner=Owner("python", "me", "mine")), ANN) == "mine"
    assert run_of(BOB, ANN) is None
    assert run_of(BOB, None) is None
    assert run_of(GpuProcess(1, 1), ANN) is None


def test_who_draws_is_respected_only_above_the_floor() -> None:
    assert status_of(device(processes=(XORG,)), None).state == GpuState.FREE
    heavy = status_of(device(used=MEMORY_FLOOR + 1, processes=(XORG,)), None)
    assert heavy.reason == "foreign process (pid 3 Xorg of root; 0.5 GiB in use)"


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        (device(processes=None), "the driver does not tell its processes"),
        (device(used=None), "the driver does not tell its memory"),
        (device(used=None, processes=None), "does not tell its processes and memory"),
        (device(mig=True), "cut into MIG instances"),
    ],
)
def test_unknown_is_taken_unless_named(unknown: Device, reason: str) -> None:
    status = status_of(unknown, None)
    assert status.state == GpuState.UNKNOWN
    assert status.reason.startswith("unknown: ") and reason in status.reason
    assert not status.may_be_taken(named=False)
    assert status.may_be_taken(named=True)


@pytest.mark.parametrize(
    "taken",
    [
        status_of(device(), ANN),
        status_of(device(processes=(BOB,)), None),
        status_of(device(used=MEMORY_FLOOR + 1), None),
        status_of(device(), None, leftover=Leftover(7, "run9")),
        status_of(device(), None, inside=False),
        status_of(Device(0, "unknown-0"), None),
    ],
)
def test_a_name_opens_nothing_that_is_known_to_be_taken(taken: object) -> None:
    assert not taken.may_be_taken(named=True)  # type: ignore[attr-defined]
