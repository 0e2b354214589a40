"""One run at a glance: why it died, where it stands, its attempts as a time line, its code.

The same document as `orchestra show --json`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.content import Content

from orchestra.formats import ago, duration, number
from orchestra.registry.store import open_registry
from orchestra.schedule.describe import describe
from orchestra.tui.panes.run_pane import RunPane
from orchestra.tui.table import wrapped
from orchestra.tui.text import join, safe

_MARKS = {"running": "●", "completed": "✓", "crashed": "✗", "stopped": "■", "lost": "?"}


class OverviewPane(RunPane):
    """What `orchestra show` prints, for the run under the cursor."""

    key: ClassVar[str] = "run"
    title: ClassVar[str] = "run"
    every_s: ClassVar[float] = 3.0

    def look(self, run_id: str) -> dict[str, Any]:
        with open_registry(self.workspace.runs) as registry:
            return describe(self.workspace, registry, run_id)

    def draw(self, found: dict[str, Any]) -> None:
        self.put(list(_lines(found, self.width)))


def _lines(run: dict[str, Any], width: int) -> Iterator[Content]:
    yield join(safe(run["name"], "bold"), safe(run["id"], "$text-muted"), between="  ")
    yield from _why(run, width)
    yield from _facts(run)
    yield safe("")
    yield safe("Attempts", "bold")
    for attempt in run["attempts"]:
        yield from _attempt(attempt, width)
    if not run["attempts"]:
        yield safe("none yet", "$text-muted")


def _why(run: dict[str, Any], width: int) -> Iterator[Content]:
    """The sentence that people open this for."""
    words = [word for word in (run["state"], run["where"], run["reason"]) if word]
    yield from wrapped(": ".join(words), width, "bold")


def _facts(run: dict[str, Any]) -> Iterator[Content]:
    progress, git = run["progress"], run["git"]
    most = progress["max_steps"] or "?"
    eta = f", ETA {duration(progress['eta_s'])}" if progress["eta_s"] is not None else ""
    yield _fact("task", f"{run['task']} on {run['upstream']}")
    yield _fact("step", f"{progress['step']} of {most}{eta}")
    metric = run["metric"] or "score"
    best = f"{number(run['score'])}, best {number(run['best_score'])}"
    yield _fact(metric, best)
    if progress["steps_per_s"] is not None:
        yield _fact("speed", f"{number(progress['steps_per_s'], 3)} steps/s")
    if git["commit"]:
        dirty = ", with uncommitted changes" if git["dirty"] else ""
        yield _fact("code", f"{git['commit'][:12]} on {git['branch'] or 'no branch'}{dirty}")
    if waits := run["waits"]:
        yield _fact("waits", waits["reason"])
    if not run["exact"]:
        yield _fact("exact", "no: micro-batches were cut after running out of memory")
    yield _fact("created", ago(run["created_at"]))
    yield _fact("folder", run["folders"]["run"])


def _fact(name: str, value: str) -> Content:
    return join(safe(f"{name:<8}", "$text-muted"), safe(value), between=" ")


def _attempt(attempt: dict[str, Any], width: int) -> Iterator[Content]:
    took = (attempt["ended_at"] or time.time()) - attempt["started_at"]
    ranks = attempt["world_size"]
    head = (
        f"{_MARKS.get(attempt['state'], '·')} {attempt['number']}  {attempt['state']}  "
        f"steps {attempt['first_step']}-{attempt['last_step']}  {duration(took)}  "
        f"{ranks} rank{'s' if ranks != 1 else ''}"
    )
    yield safe(head)
    failure = attempt["failure"]
    reason = failure["sentence"] if failure else attempt["reason"]
    for line in wrapped(reason, width - 2) if reason else ():
        yield join(safe("│ ", "$text-muted"), line)
    for line in wrapped(failure["action"], width - 2) if failure and failure.get("action") else ():
        yield join(safe("└ ", "$text-muted"), line)
