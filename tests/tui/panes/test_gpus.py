"""The tab of the machine, against fake GPUs that are edited while it looks."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestra.gpu.leases import Leases
from orchestra.registry.rows import JobKey
from orchestra.tui.background import Background
from orchestra.tui.gpu_watch import GpuWatch
from orchestra.tui.panes.gpus import GpusPane
from orchestra.wire.job import Attempt
from orchestra.wire.states import AttemptState, RunState
from tests.chaos.sandbox import Sandbox
from tests.fakes.nvml import UUIDS, FakeNvml
from tests.gpu.conftest import nvml, nvml_library
from tests.schedule.conftest import sandbox
from tests.tui.showing import driven, seen, showing, until

__all__ = ["nvml", "nvml_library", "sandbox"]


@asynccontextmanager
async def machine(sandbox: Sandbox, width: int = 80) -> AsyncIterator[tuple[Any, Any]]:
    watches = []

    def make(reader: Background) -> GpusPane:
        watches.append(GpuWatch(sandbox.workspace, reader))
        return GpusPane(sandbox.workspace, reader, watches[0])

    async with showing(make, (width, 24)) as shown:
        yield shown
    watches[0].close()


async def tick_until(app: Any, pilot: Any, word: str) -> str:
    """As the app does once a second, only faster."""

    def there() -> bool:
        app.shown.tick()
        return word in app.text

    await until(pilot, there)
    return str(app.text)


def had(sandbox: Sandbox, run_id: str, device: str, hours_ago: float, for_h: float) -> None:
    """A run on record that had this device for a while."""
    sandbox.add_run(run_id=run_id)
    key, begun = JobKey(run_id), time.time() - 3600 * hours_ago
    with sandbox.registry() as registry:
        registry.transition(key, frozenset(RunState), RunState.RUNNING)
        ended = Attempt(
            1, f"{run_id}.1.x", 1, (device,), begun, AttemptState.COMPLETED,
            ended_at=begun + 3600 * for_h,
        )  # fmt: skip
        registry.start_attempt(key, ended)
        registry.end_attempt(key, ended)
        registry.transition(key, frozenset(RunState), RunState.COMPLETED)


@pytest.mark.parametrize("width", [80, 120])
@driven
async def test_devices_holders_and_the_host(sandbox: Sandbox, nvml: FakeNvml, width: int) -> None:
    nvml.idle(1)
    with Leases() as leases:
        leases.acquire(1, [UUIDS[0]], "run1", sandbox.workspace.root)
        nvml.write(
            f"gpu {UUIDS[0]} 81920 40960 97 NVIDIA H100", "power 512 700", "temperature 88",
            f"gpu {UUIDS[1]} 81920 3 0 NVIDIA H100",
            f"gpu {UUIDS[2]} 81920 9000 5 [/foo]", f"process {os.getpid()} 8000",
        )  # fmt: skip
        async with machine(sandbox, width) as (app, pilot):
            text = await tick_until(app, pilot, "H100")
            lines = text.splitlines()
            assert "host" in lines[0] and "load" in lines[0] and "memory" in lines[1]
            first = next(line for line in lines if "● leased" in line)
            assert "run run1 of " in first
            below = lines[lines.index(first) + 1]
            assert "40.0 GiB / 80.0 GiB" in below and "97%" in below and "512/700 W" in below
            assert "88°C hot" in below
            assert "○ free" in text and "▲ foreign  [/foo]  pid" in text
            assert all(len(line) <= width for line in lines)


@driven
async def test_lanes_tell_runs_apart_by_letters(sandbox: Sandbox, nvml: FakeNvml) -> None:
    device, _ = nvml.idle(2)
    had(sandbox, "old", device, hours_ago=3.5, for_h=1.0)
    had(sandbox, "new", device, hours_ago=1.0, for_h=0.5)
    had(sandbox, "ancient", device, hours_ago=9.0, for_h=0.5)
    async with machine(sandbox) as (app, pilot):
        text = await tick_until(app, pilot, "A old")
        assert "B new" in text and "ancient" not in text
        lanes = [
            line.strip() for line in text.splitlines() if line.strip(" ·AB") == "" and line.strip()
        ]
        assert len(lanes) == 2 and set(lanes[1]) == {"·"}
        busy = lanes[0]
        assert busy.startswith("·") and busy.endswith("·"), "idle gaps are seen"
        assert busy.index("A") < busy.rindex("A") < busy.index("B")
        assert 15 <= busy.count("A") <= 21 and 8 <= busy.count("B") <= 11  # of 76 cells in 4 h
        app.shown.focus()
        for _ in range(2):
            await pilot.press("plus")
        await seen(pilot, "A ancient", "C new", "last 12 h")


@driven
async def test_the_short_history_grows(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.write(f"gpu {UUIDS[0]} 81920 3 0 X")
    async with machine(sandbox) as (app, pilot):
        await tick_until(app, pilot, "0% ▁")
        nvml.write(f"gpu {UUIDS[0]} 81920 3 100 X")
        await tick_until(app, pilot, "▁█")


@driven
async def test_nvml_that_hangs_costs_its_part_alone(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.write("hang")
    async with machine(sandbox) as (app, pilot):
        text = await tick_until(app, pilot, "NVML has not answered yet")
        assert "memory" in text
        await tick_until(app, pilot, "did not answer within 5 s")
        nvml.idle(1)
        await tick_until(app, pilot, "Fake H100")


@driven
async def test_no_driver_is_a_sentence(
    sandbox: Sandbox, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    async with machine(sandbox) as (app, pilot):
        text = await tick_until(app, pilot, "no GPU is shown: no NVIDIA driver")
        assert "memory" in text


@driven
async def test_no_child_stays(sandbox: Sandbox, nvml: FakeNvml) -> None:
    nvml.idle(1)
    async with machine(sandbox) as (app, pilot):
        await tick_until(app, pilot, "Fake H100")
        child = app.shown._watch._watch._prober._child
        assert child is not None and child.poll() is None
    assert child.returncode is not None
