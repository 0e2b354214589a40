"""The machine: its GPUs, who has them and had them in the last hours, its CPUs and memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from orchestra.gpu.snapshot import Gpu, Snapshot
from orchestra.schedule.lanes import Lanes, read_lanes
from orchestra.tui.gpu_rows import (
    Window,
    axis,
    gpu_lines,
    host_lines,
    lane,
    legend,
    letters_of,
)
from orchestra.tui.gpu_watch import GpuWatch
from orchestra.tui.keys import Key, bindings
from orchestra.tui.panes.rows_pane import RowsPane
from orchestra.tui.table import wrapped

if TYPE_CHECKING:
    from orchestra.tui.background import Background
    from orchestra.tui.pane import Focus
    from orchestra.wire.errors import OrchestraError
    from orchestra.workspace import Workspace

_HOURS = (1, 2, 4, 8, 12, 24, 48, 168)
_FIRST_HOURS = 4
_LANES_EVERY_S = 10.0
_SPARKS = 10  # shown of them at the least; more where there is room
_NARROW, _WIDE = 80, 120
_INDENT = 2

KEYS = (
    Key("plus,equals_sign", "hours(1)", "more hours", "Lanes of a longer time.", "gpus",
        show_as="+"),
    Key("minus", "hours(-1)", "fewer hours", "Lanes of a shorter time.", "gpus", show_as="-"),
)  # fmt: skip


class GpusPane(RowsPane, can_focus=False):
    """Needs no run. NVML that is absent or hangs costs its part alone."""

    key = "gpus"
    title = "GPUs"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, workspace: Workspace, reader: Background, watch: GpuWatch) -> None:
        super().__init__(workspace, reader)
        self._watch = watch
        self.hours = _FIRST_HOURS
        self._lanes: Lanes = {}
        self._window = Window(0.0, 1.0)
        self._lanes_due = 0.0
        self._problem = ""

    def on_mount(self) -> None:
        """Until the first reading."""
        self.say("asking NVML ...", "dim")

    def show(self, focus: Focus) -> None:
        """The machine is the same for all runs."""
        self.tick()

    def tick(self) -> None:
        self._watch.tick()
        if self._watch.machine is not None or self._watch.problem:
            self.draw_by(self._draw)
        now = time.monotonic()
        if now >= self._lanes_due:
            self._lanes_due = now + _LANES_EVERY_S
            window = Window(time.time() - 3600 * self.hours, time.time())
            self.read(
                lambda: read_lanes(self.workspace, window.since_s, window.now_s),
                lambda lanes: self._take_lanes(lanes, window),
                slot="-lanes",
                failed=self._without_lanes,
            )

    def action_hours(self, by: int) -> None:
        """The next longer or shorter time."""
        place = min(max(_HOURS.index(self.hours) + by, 0), len(_HOURS) - 1)
        self.hours = _HOURS[place]
        self._lanes_due = 0.0
        self.tick()

    def _take_lanes(self, lanes: Lanes, window: Window) -> None:
        self._lanes, self._window, self._problem = lanes, window, ""
        self.redraw()

    def _without_lanes(self, error: OrchestraError) -> None:
        self._lanes, self._problem = {}, f"no history: {error}"
        self.redraw()

    def _draw(self) -> None:
        machine = self._watch.machine
        if machine is None:
            self.say(self._watch.problem, "$text-error")
            return
        sparks = _SPARKS if self.width < _WIDE else 2 * _SPARKS
        lines = host_lines(machine.host, list(self._watch.busy)[-sparks:])
        lines.append(Content(""))
        lines += self._gpus(machine.gpus, sparks if self.width >= _NARROW else _SPARKS // 2)
        for problem in filter(None, (self._watch.problem, self._problem)):
            lines += wrapped(problem, self.width, "$text-error")
        self.put(lines)

    def _gpus(self, found: Snapshot | None, sparks: int) -> Iterable[Content]:
        if found is None:
            yield Content.styled("NVML has not answered yet", "dim")
            return
        if found.error is not None:
            style = "$text-error" if found.is_broken else ""
            yield from wrapped(f"no GPU is shown: {found.error}", self.width, style)
            return
        if not found.gpus:
            yield Content("this machine has no GPUs")
            return
        width = max(10, self.width - _INDENT)
        letters = letters_of(self._lanes.values())
        for gpu in found.gpus:
            uuid = gpu.device.uuid
            history = list(self._watch.history.get(uuid, ()))[-sparks:]
            own = gpu_lines(gpu, self._name_of(gpu), history, time.time())
            yield from (line.truncate(self.width, ellipsis=True) for line in own)
            yield lane(self._lanes.get(uuid, ()), letters, self._window, width).pad_left(_INDENT)
        yield axis(self._window, width).pad_left(_INDENT)
        yield from legend(self._lanes.values(), letters, self.width)
        if found.limit is not None:
            yield Content(f"this workspace's runs hold {found.held_here} of at most {found.limit}")

    def _name_of(self, gpu: Gpu) -> str | None:
        """Of the run that holds it, where this workspace knows it."""
        stays = self._lanes.get(gpu.device.uuid, ())
        run_id = gpu.holder.run_id if gpu.holder else None
        return next((stay.name for stay in reversed(stays) if stay.run_id == run_id), None)
