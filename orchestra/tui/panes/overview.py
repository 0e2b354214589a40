"""One run at a glance: why it died, where it stands, its attempts as a time line, its code.

The same document as `orchestra show --json`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from orchestra.formats import ago, duration, number
from orchestra.registry.store import open_registry
from orchestra.schedule.describe import describe
from orchestra.tui.pane import Focus, Pane
from orchestra.tui.text import join, safe
from orchestra.wire.errors import OrchestraError

_REFRESH_EVERY = 5  # ticks; the table beside it shows what changes faster
_MARKS = {"running": "●", "completed": "✓", "crashed": "✗", "stopped": "■", "lost": "?"}


class OverviewPane(Pane):
    """What `orchestra show` prints, for the run under the cursor."""

    key: ClassVar[str] = "run"
    title: ClassVar[str] = "run"
    DEFAULT_CSS = """
    OverviewPane > VerticalScroll { padding: 0 1; }
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._run_id = ""
        self._ticks = 0
        self._focus = Focus(None)

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield Static("", markup=False, id="overview")

    def show(self, focus: Focus) -> None:
        before, self._focus = self._focus, focus
        if focus.run is None:
            self._put(safe("No run is chosen.", "$text-muted"))
        elif before.run is None or (before.run.id, before.run.row) != (focus.run.id, focus.run.row):
            self._ask(focus.run.id)

    def tick(self) -> None:
        self._ticks += 1
        if self._focus.run is not None and self._ticks % _REFRESH_EVERY == 0:
            self._ask(self._focus.run.id)

    def show_problem(self, error: OrchestraError) -> None:
        self._put(safe(str(error), "$error"))

    def _ask(self, run_id: str) -> None:
        def work() -> dict[str, Any]:
            with open_registry(self.workspace.runs) as registry:
                return describe(self.workspace, registry, run_id)

        self.read(work, self._draw)

    def _draw(self, run: dict[str, Any]) -> None:
        if self._focus.run is None or self._focus.run.id != run["id"]:
            return
        if run["id"] != self._run_id:
            self._run_id = run["id"]
            self.query_one(VerticalScroll).scroll_home(animate=False)
        self._put(join(*_lines(run), between="\n"))

    def _put(self, content: Content) -> None:
        self.query_one("#overview", Static).update(content)


def _lines(run: dict[str, Any]) -> Iterator[Content]:
    yield join(safe(run["name"], "bold"), safe(run["id"], "$text-muted"), between="  ")
    yield from _why(run)
    yield from _facts(run)
    yield safe("")
    yield safe("Attempts", "bold")
    for attempt in run["attempts"]:
        yield from _attempt(attempt)
    if not run["attempts"]:
        yield safe("none yet", "$text-muted")


def _why(run: dict[str, Any]) -> Iterator[Content]:
    """The sentence that people open this for."""
    state = safe(run["state"], "bold")
    words = [word for word in (run["where"], run["reason"]) if word]
    yield join(state, *(safe(word) for word in words), between=": ")


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


def _attempt(attempt: dict[str, Any]) -> Iterator[Content]:
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
    if reason:
        yield join(safe("│ ", "$text-muted"), safe(reason))
    if failure and failure.get("action"):
        yield join(safe("└ ", "$text-muted"), safe(failure["action"], "$warning"))
