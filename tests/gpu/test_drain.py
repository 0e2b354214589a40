"""A GPU is given on only when the memory of its last user is back, or after a bounded wait."""

from __future__ import annotations

import os
from collections.abc import Callable

from orchestra.gpu.drain import wait_until_drained
from orchestra.gpu.probe import Prober
from tests.fakes.nvml import FakeNvml


class Waits:
    """A clock that only waiting moves; `then` happens at the third wait."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.now = 0.0
        self.count = 0
        self._then = then

    def __call__(self, seconds: float) -> None:
        self.now += seconds
        self.count += 1
        if self.count == 3:
            self._then()

    def clock(self) -> float:
        return self.now


def drained(waits: Waits, *uuids: str, deadline_s: float = 50.0) -> str:
    with Prober() as prober:
        return wait_until_drained(uuids, prober, waits, deadline_s=deadline_s, clock=waits.clock)


def test_drained_devices_are_not_waited_for(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 81920 3 0 X", "gpu GPU-b 81920 9000 0 X", "process 1 9000")
    waits = Waits()
    assert drained(waits, "GPU-a") == ""
    assert waits.count == 0


def test_memory_that_comes_back_ends_the_wait(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 81920 9000 0 X")
    waits = Waits(then=lambda: nvml.write("gpu GPU-a 81920 3 0 X"))
    assert drained(waits, "GPU-a") == ""
    assert waits.count == 3


def test_the_deadline_names_who_holds_it(nvml: FakeNvml) -> None:
    nvml.write("gpu GPU-a 81920 4301 0 X", f"process {os.getpid()} 4301", "gpu GPU-b 100 3 0 X")
    waits = Waits()
    said = drained(waits, "GPU-a", "GPU-b", deadline_s=2.0)
    assert said.startswith(f"GPU 0 still has 4.2 GiB in use by pid {os.getpid()} ")
    assert said.endswith(" after 2 s")
    assert 2.0 <= waits.now < 2.5


def test_a_driver_that_says_nothing_is_not_waited_for_without_end(nvml: FakeNvml) -> None:
    nvml.write("broken")
    waits = Waits()
    said = drained(waits, "GPU-a")
    assert said == "whether the GPUs have drained is not known (NVML: Driver Not Loaded)"
    assert waits.count == 1
    nvml.write("gpu GPU-a 81920 3 0 X", "refuse memory")
    assert drained(Waits(), "GPU-a") == ""
