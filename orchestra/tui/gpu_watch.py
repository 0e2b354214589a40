"""The GPUs, asked every few seconds in a thread of their own: NVML may hang as long as it likes.

Everything on the screen that tells of GPUs reads the newest answer here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from orchestra.gpu import snapshot
from orchestra.gpu.probe import NO_DRIVER, Prober
from orchestra.gpu.snapshot import Snapshot
from orchestra.gpu.status import GpuState
from orchestra.tui.background import Background, Deliver
from orchestra.wire.errors import OrchestraError
from orchestra.workspace import Workspace

EVERY_S = 2.0


class GpuWatch:
    """`on_news` is called on the screen's thread after each answer."""

    def __init__(self, workspace: Workspace, deliver: Deliver, on_news: Callable[[], None]) -> None:
        self._workspace = workspace
        self._background = Background("gpus", deliver)
        self._prober = Prober()
        self._on_news = on_news
        self._asking = False
        self._asked_at = 0.0
        self.now: Snapshot | None = None
        self.problem = ""
        """Why nothing is known; empty if something is."""

    def start(self) -> None:
        """Begin."""
        self._background.start()

    def stop(self) -> None:
        """End, with the child that asks NVML; bounded."""
        self._background.stop(last=self._prober.close)

    def tick(self) -> None:
        """Ask again if it is time and the last answer has come."""
        if self._asking or time.monotonic() - self._asked_at < EVERY_S:
            return
        self._asking, self._asked_at = True, time.monotonic()
        root, prober = self._workspace.root, self._prober
        self._background.ask("gpus", lambda: snapshot.read(root, prober), self._take, self._fail)

    @property
    def words(self) -> str:
        """For the header."""
        if self.problem:
            return "GPUs ?"
        now = self.now
        if now is None or now.error == NO_DRIVER:
            return ""
        if now.error is not None:
            return "GPUs ?"
        free = sum(gpu.status.state is GpuState.FREE for gpu in now.gpus)
        return f"{free}/{len(now.gpus)} GPUs free"

    @property
    def indices(self) -> Mapping[str, int] | None:
        """By UUID; None where nothing is known."""
        if self.now is None or self.now.error is not None:
            return None
        return {gpu.device.uuid: gpu.device.index for gpu in self.now.gpus}

    def _take(self, now: Snapshot) -> None:
        self._asking = False
        self.now, self.problem = now, ""
        self._on_news()

    def _fail(self, error: OrchestraError) -> None:
        self._asking = False
        self.now, self.problem = None, str(error)
        self._on_news()
