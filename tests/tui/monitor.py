"""The monitor itself under a pilot, and registries for it to show."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from orchestra.registry.rows import JobKey, NewRun
from orchestra.registry.store import open_registry
from orchestra.tui.app import Monitor
from orchestra.wire.states import RunState
from orchestra.workspace import Workspace


class Watched(Monitor):
    """Tells what is on the screen."""

    @property
    def text(self) -> str:
        strips = self.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)


@asynccontextmanager
async def monitor(
    workspace: Workspace, size: tuple[int, int] = (120, 36), *, readonly: bool = False
) -> AsyncIterator[tuple[Watched, Pilot[None]]]:
    app = Watched(workspace, readonly=readonly)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield app, pilot


def add_runs(
    workspace: Workspace,
    names: Sequence[str],
    state: RunState = RunState.COMPLETED,
    reason: str = "",
) -> list[str]:
    """Ended runs, in the registry alone; their ids."""
    ids = []
    workspace.runs.path.mkdir(exist_ok=True)
    with open_registry(workspace.runs) as registry, registry.bulk():
        before = len(registry.list_runs())
        for number, name in enumerate(names, start=before):
            run_id = f"r{number:05d}"
            created_at = time.time() - 86400 + number
            registry.create_run(NewRun(run_id, name, "asr", "wavlm", created_at, 4000, "0"))
            key = JobKey(run_id)
            registry.transition(key, [RunState.QUEUED], RunState.STARTING)
            if state is not RunState.STARTING:
                registry.transition(key, [RunState.STARTING], state, reason=reason)
            ids.append(run_id)
    return ids
