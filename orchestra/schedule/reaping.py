"""`orchestra reap` after the question: kills what was shown, and tells the runs concerned.

What to kill is judged again in `reap_dead`, process by process.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from orchestra.registry.rows import JobKey
from orchestra.registry.store import open_registry
from orchestra.schedule.asked import note_asked
from orchestra.schedule.reap import Findings, reap_dead
from orchestra.wire.errors import OrchestraError
from orchestra.wire.folders import RunsFolder


@dataclass(frozen=True)
class Reaped:
    """What was done. `leftovers` describes processes that survived."""

    killed: int
    leftovers: tuple[str, ...]


def reap_shown(findings: Findings) -> Reaped:
    """Kill what `findings` calls dead, as far as it still is."""
    killed = 0
    leftovers: list[str] = []
    for runs, run_id in sorted({(item.runs, item.run_id) for item in findings.dead}):
        tags = {item.tag for item in findings.dead if (item.runs, item.run_id) == (runs, run_id)}
        sweep = reap_dead(tags=tags)
        killed += sweep.killed
        leftovers += sweep.leftovers
        if sweep.killed:
            _tell(RunsFolder(Path(runs)), run_id, sweep.killed)
    return Reaped(killed, tuple(leftovers))


def _tell(runs: RunsFolder, run_id: str, killed: int) -> None:
    """An event of the run, if it is still there; any workspace of this user may be its home."""
    if not runs.run(run_id).identity.is_file():
        return
    with contextlib.suppress(OrchestraError), open_registry(runs) as registry:
        if registry.knows(run_id):
            note_asked(registry, JobKey(run_id), f"reap of {killed} left behind")
