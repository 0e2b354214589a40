"""The machine's newest reading and a short history of it, for the header and the GPU tab alike.

NVML is never waited for: its child process does (see schedule/gpus.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from orchestra.gpu.probe import NO_DRIVER
from orchestra.gpu.snapshot import Snapshot
from orchestra.gpu.status import GpuState
from orchestra.schedule.gpus import Machine, MachineWatch
from orchestra.tui.background import Background
from orchestra.tui.gpu_rows import Sample
from orchestra.wire.errors import OrchestraError
from orchestra.workspace import Workspace

EVERY_S = 0.9  # a tick comes once a second
SAMPLES = 60


class GpuWatch:
    """Ticks come from whoever shows something of it."""

    def __init__(self, workspace: Workspace, background: Background) -> None:
        self._watch = MachineWatch(workspace.root)
        self._background = background
        self._asked_at = 0.0
        self.machine: Machine | None = None
        self.problem = ""
        """Why nothing new is known; empty if it is."""
        self.history: dict[str, deque[Sample]] = {}
        """By UUID."""
        self.busy: deque[float] = deque(maxlen=SAMPLES)
        """Percent of all CPUs."""

    def tick(self) -> None:
        """Look again if it is time."""
        now = time.monotonic()
        if now - self._asked_at >= EVERY_S:
            self._asked_at = now
            self._background.ask("machine", self._watch.look, self._take, self._fail)

    def close(self) -> None:
        """End the child that asks NVML."""
        self._watch.close()

    @property
    def words(self) -> str:
        """For the header; empty before the first answer."""
        found = self.machine.gpus if self.machine else None
        if self.problem or (found is not None and found.is_broken):
            return "GPUs ?"
        if found is None:
            return ""
        if found.error == NO_DRIVER or not found.gpus:
            return "no GPUs"
        free = sum(gpu.status.state is GpuState.FREE for gpu in found.gpus)
        return f"{free}/{len(found.gpus)} GPUs free"

    @property
    def indices(self) -> Mapping[str, int] | None:
        """By UUID; None where nothing is known."""
        found = self.machine.gpus if self.machine else None
        if found is None or found.error is not None:
            return None
        return {gpu.device.uuid: gpu.device.index for gpu in found.gpus}

    def _take(self, machine: Machine) -> None:
        before = self.machine.gpus if self.machine else None
        self.machine, self.problem = machine, ""
        if machine.host.cpu_percent is not None:
            self.busy.append(machine.host.cpu_percent)
        if machine.gpus is not None and machine.gpus is not before:
            self._remember(machine.gpus)

    def _remember(self, gpus: Snapshot) -> None:
        for gpu in gpus.gpus:
            history = self.history.setdefault(gpu.device.uuid, deque(maxlen=SAMPLES))
            history.append(Sample(gpu.device.utilisation, gpu.device.temperature_c))

    def _fail(self, error: OrchestraError) -> None:
        self.problem = str(error)
