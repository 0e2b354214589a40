"""The machine looked at again and again, without ever waiting for NVML."""

from __future__ import annotations

import contextlib
from pathlib import Path

from orchestra.schedule.gpus import MachineWatch
from tests.chaos.sandbox import wait_for
from tests.fakes.nvml import FakeNvml
from tests.gpu.conftest import nvml, nvml_library

__all__ = ["nvml", "nvml_library"]


def test_what_is_newest_stays_while_nvml_hangs(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(2)
    with contextlib.closing(MachineWatch(tmp_path)) as watch:
        first = wait_for("an answer", lambda: watch.look().gpus)
        assert len(first.gpus) == 2
        nvml.write("hang")
        asked = [watch.look() for _ in range(20)]
        # One that had waited for the answer would have its deadline's error.
        assert all(machine.gpus and machine.gpus.error is None for machine in asked)
        assert asked[-1].host.memory_total_bytes


def test_nothing_is_started_once_it_is_closed(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.idle(1)
    watch = MachineWatch(tmp_path)
    wait_for("an answer", lambda: watch.look().gpus)
    watch.close()
    assert watch.look().gpus is not None
    assert watch._prober._child is None
